# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench gateway`: requests per second, latency and CPU time through a gateway that is already running.

The gateway has to use an external runner (`ext-plugin: path_for_test` in APISIX's config.yaml, or `apisix-runner dev --runner-socket`).
Routes are written for the cases, each runner is started in turn on the gateway's socket, and wrk sends requests. Everything has a time
limit, and the gateway's routes are as before at the end.
"""

import argparse
import http.client
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench import gateway_routes, http_load, peers
from bench.cases import ARGS, CASES, REQUEST_HEADERS, Case
from bench.files import HERE, CannotMeasure
from bench.machine import in_words, machine
from bench.modes import COMPILED, PURE, modes
from bench.part import note, shown, spread
from bench.peers import Peer
from bench.processes import process_family, scratch, serving, start_command

CONNECTIONS, THREADS, SECONDS, ROUNDS, WORKERS = 32, 1, 5.0, 3, 1
DEFAULT_CASES = ("noop", "read-set", "stop", "body", "response")
UPSTREAM = "127.0.0.1:1980"
READY_TIMEOUT_S = 15.0
"""How long the gateway may take to read its routes, or to find a new runner, in seconds."""
PROBE_TIMEOUT_S, PROBE_PAUSE_S = 5.0, 0.1
GATEWAYS_OWN = "the gateway's"
NO_RUNNER = "none"
_PLAIN = Case(gateway_routes.PLAIN, "no plugins", [])


@dataclass
class _Row:
    """The rounds of one route with one runner."""

    title: str
    runner: str
    loads: list[http_load.Load] = field(default_factory=list)
    gateway_us: list[float] = field(default_factory=list)
    runner_us: list[float] = field(default_factory=list)
    problem: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Run the measurement that the arguments describe, print a table in Markdown, and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        http_load.check_installed()
        rows = _Measurement(options).run()
    except (CannotMeasure, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(_markdown(rows))
    print(f"\n{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s; {in_words(machine())}")
    return int(any(row.problem for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench gateway",
        description="Measure runners through a gateway that is already running, and compare with a route that has no plugins.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", required=True, help="where the gateway serves HTTP, for example http://127.0.0.1:9080")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--routes", type=Path, metavar="FILE", help="add the routes to this apisix.yaml of a stand-alone gateway")
    where.add_argument("--admin-key", metavar="KEY", help="put the routes over the admin API with this key")
    parser.add_argument("--admin-url", metavar="URL", help="where the admin API is, if it is not at --url")
    parser.add_argument(
        "--upstream", metavar="HOST:PORT", default=UPSTREAM, help="a fast upstream that replies 200 to every request (default %(default)s)"
    )
    parser.add_argument("--socket", type=Path, metavar="PATH", help="the socket on which the gateway expects its runner")
    parser.add_argument(
        "--no-runner", action="store_true", help="start no runner: the gateway has its own, with the plugins of bench/plugins"
    )
    parser.add_argument("--mode", action="append", choices=[COMPILED, PURE], help="of our runner, only this mode; may be repeated")
    parser.add_argument(
        "--peer", action="append", type=peers.argument, metavar="NAME=COMMAND", help="measure another runner too; may be repeated"
    )
    parser.add_argument(
        "--case", action="append", choices=[case.name for case in CASES], metavar="NAME", help="only this case; may be repeated"
    )
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help="how many connections send requests at a time (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=THREADS, help="threads of wrk (default %(default)s)")
    parser.add_argument("--workers", type=int, default=WORKERS, help="workers of our runner (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each measurement takes, at least 1 (default %(default)g)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often everything is measured, in turn (default %(default)s)")
    return parser


def _epilog() -> str:
    return f"""\
With the development gateway, in two terminals:
  echo '#END' > bench.yaml && apisix-runner dev --runner-socket /tmp/runner.sock --routes bench.yaml --json > /dev/null
  python -m bench gateway --url http://127.0.0.1:9080 --routes bench.yaml --socket /tmp/runner.sock

or, with the runner that it starts itself:
  echo '#END' > bench.yaml && apisix-runner dev --plugins bench/plugins --routes bench.yaml --json > /dev/null
  python -m bench gateway --url http://127.0.0.1:9080 --routes bench.yaml --no-runner

With --no-runner, the CPU time of the runner is only known if --socket is given.

{peers.help_text()}"""


class _Measurement:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._cases = [case for case in CASES if case.name in (options.case or DEFAULT_CASES)]
        self._rows: dict[tuple[str, str], _Row] = {}
        self._url: str = options.url.rstrip("/")

    def run(self) -> list[_Row]:
        """
        Measure all rounds and return the rows.

        Raises:
            CannotMeasure: the routes can't be written, or a runner can't be started.
        """
        if self._options.no_runner and (self._options.peer or self._options.mode):
            raise CannotMeasure("--no-runner measures the gateway's own runner only: leave out --mode and --peer.")
        if not (self._options.no_runner or self._options.socket):
            raise CannotMeasure("--socket has to be the path on which the gateway expects its runner, unless --no-runner is given.")
        with scratch() as directory, self._routes():
            self._directory = directory
            self._scripts = {case.name: http_load.write_script(case, directory) for case in [_PLAIN, *self._cases]}
            for number in range(self._options.rounds):
                note(f"round {number + 1} of {self._options.rounds}")
                self._measure(_PLAIN, NO_RUNNER, set())
                for name, command in self._runners().items():
                    with self._running(command) as pids:
                        for case in self._cases:
                            if command is None or name in (COMPILED, PURE) or peers.takes_part(case):
                                self._measure(case, name, pids)
        return list(self._rows.values())

    def _routes(self) -> AbstractContextManager[None]:
        definitions = gateway_routes.routes(self._cases, self._options.upstream)
        if self._options.routes is not None:
            return gateway_routes.in_file(self._options.routes, definitions)
        return gateway_routes.over_admin_api(self._options.admin_url or self._url, self._options.admin_key, definitions)

    def _runners(self) -> dict[str, Peer | None]:
        """Return the runners to start, by name; None is the gateway's own."""
        if self._options.no_runner:
            return {GATEWAYS_OWN: None}
        found: dict[str, Peer | None] = {}
        for mode in modes(self._options.mode or (COMPILED, PURE)):
            command = start_command(mode, self._options.socket.resolve(), workers=self._options.workers)
            found[mode.name] = Peer(mode.name, tuple(command), mode.variables())
        return found | {peer.name: peer for peer in self._options.peer or ()}

    @contextmanager
    def _running(self, runner: Peer | None) -> Iterator[set[int]]:
        """Start a runner on the gateway's socket, and yield the pids of its processes."""
        path: Path | None = self._options.socket and self._options.socket.resolve()
        if runner is None:
            pid = http_load.listener_at(path) if path else None
            yield set(process_family(pid, 1) if pid else ())
            return
        assert path is not None  # noqa: S101  # checked by `run`
        if http_load.listener_at(path) is not None:
            raise CannotMeasure(f"Another runner listens on {path}: stop it, or measure it with --no-runner.")
        path.unlink(missing_ok=True)
        ours = runner.name in (COMPILED, PURE)
        with serving(
            runner.command,
            path,
            peers.variables(runner, path),
            set(os.sched_getaffinity(0)),
            stop_with=signal.SIGINT,
            directory=HERE.parent if ours else Path.cwd(),
        ) as process:
            path.chmod(0o666)  # the gateway may run as another user
            yield set(process_family(process.pid, 1 + self._options.workers if ours else 1))
        path.unlink(missing_ok=True)

    def _measure(self, case: Case, runner: str, runner_pids: set[int]) -> None:
        """Measure one route. If it fails with a runner, it is not measured again. If the plain route fails, nothing can be measured."""
        row = self._rows.setdefault((case.name, runner), _Row(case.title, runner))
        if row.problem:
            return
        try:
            self._wait_until_ready(case)
            self._load(case, min(1.0, self._options.seconds / 2))
            gateway_pids = http_load.listeners(self._url) - runner_pids
            before = http_load.cpu_s(gateway_pids), http_load.cpu_s(runner_pids)
            load = self._load(case, self._options.seconds)
            after = http_load.cpu_s(gateway_pids), http_load.cpu_s(runner_pids)
        except CannotMeasure as problem:
            if runner == NO_RUNNER:
                raise
            row.problem = str(problem)
            note(f"{case.title}, {runner}: {problem}")
            return
        row.loads.append(load)
        row.gateway_us += [1e6 * (after[0] - before[0]) / load.requests] if gateway_pids else []
        row.runner_us += [1e6 * (after[1] - before[1]) / load.requests] if runner_pids else []
        note(f"{case.title}, {runner}: {load.requests / load.duration_s:,.0f} requests/s")

    def _load(self, case: Case, seconds: float) -> http_load.Load:
        load = http_load.run(
            self._target(case),
            self._scripts[case.name],
            connections=self._options.connections,
            threads=self._options.threads,
            seconds=seconds,
        )
        failed = load.requests - load.status_errors if _status(case) >= 400 else load.status_errors
        if failed or load.socket_errors:
            raise CannotMeasure(
                f"Of {load.requests} requests, {failed} got another status than {_status(case)}, and {load.socket_errors} failed."
            )
        return load

    def _wait_until_ready(self, case: Case) -> None:
        """
        Wait until the gateway serves the route of a case correctly.

        Raises:
            CannotMeasure: it does not in time; the text has its last reply.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            found = self._probe(case)
            if found == "":
                return
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{self._target(case)} should reply {_status(case)} within {READY_TIMEOUT_S:g} s, but {found}.")
            time.sleep(PROBE_PAUSE_S)

    def _probe(self, case: Case) -> str:
        """Return what is wrong with the reply to one request, or an empty text."""
        parts = urlsplit(self._target(case))
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=PROBE_TIMEOUT_S)
        try:
            headers = {name: value for name, value in REQUEST_HEADERS if name != "host"}
            connection.request("POST" if case.body_bytes else "GET", f"{parts.path}?{parts.query}", case.body() or None, headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            return f"the request failed: {error}"
        finally:
            connection.close()
        if reply.status != _status(case):
            return f"it replied {reply.status}: {' '.join(body[:200].decode(errors='replace').split())}"
        if case.response_phase and reply.headers.get("x-bench") is None:
            return "its reply does not have the header x-bench, which the plugin sets"
        return ""

    def _target(self, case: Case) -> str:
        query = "&".join(f"{name}={value}".replace(" ", "%20") for name, value in ARGS)
        return f"{self._url}{gateway_routes.uri(case.name)}?{query}"


def _status(case: Case) -> int:
    status: int = getattr(case.reply, "status", 0) or 200
    return status


def _markdown(rows: Sequence[_Row]) -> str:
    columns = [
        "requests/s (least to greatest)",
        "of the plain route",
        "p50",
        "p99",
        "gateway's CPU per request",
        "runner's CPU per request",
    ]
    lines = [f"| route | runner | {' | '.join(columns)} |", "|---|---|" + "---:|" * len(columns)]
    plain = next((_per_second(row)["median"] for row in rows if row.runner == NO_RUNNER and row.loads), None)
    for row in rows:
        if row.problem or not row.loads:
            lines.append(f"| {row.title} | {row.runner} | not measured: {(row.problem or '').splitlines()[0]} | | | | | |")
            continue
        rate = _per_second(row)
        p50, p99 = (spread([getattr(load, name) for load in row.loads])["median"] / 1e3 for name in ("p50_us", "p99_us"))
        share = f"{rate['median'] / plain:.0%}" if plain else ""
        cells = [
            shown(rate, digits=0),
            share,
            f"{p50:.2f} ms",
            f"{p99:.2f} ms",
            _us(row.gateway_us),
            "" if row.runner == NO_RUNNER else _us(row.runner_us),
        ]
        lines.append(f"| {row.title} | {row.runner} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _per_second(row: _Row) -> dict[str, float]:
    return spread([load.requests / load.duration_s for load in row.loads])


def _us(values: Sequence[float]) -> str:
    return f"{spread(values)['median']:.0f} us" if values else "unknown"
