# SPDX-License-Identifier: Apache-2.0
"""
The memory that the runner uses: without plugins, for each route, for each idle connection, and while a body is processed.

Proportional set size, from `/proc/<pid>/smaps_rollup`: a page that two processes share counts half for each. Growth is that of anonymous
memory, because the sharing of library pages depends on the other processes of the machine.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from apisix.runner.wire.messages import PrepareConfReq
from bench.caller import Caller
from bench.cases import CASES, Case
from bench.charts import COLOURS
from bench.files import CannotMeasure
from bench.modes import COMPILED, PURE, Mode, modes
from bench.part import Scale, Target, note, shown, spread
from bench.processes import runner, scratch

KIB, MIB = 2**10, 2**20
ROUTES, SMOKE_ROUTES = 10_000, 200
CONNECTIONS, SMOKE_CONNECTIONS = 2000, 100
BODY, SMOKE_BODY = 8 * MIB, MIB
WORKER_MIB, ROUTES_MIB, CONNECTION_KIB, COPIES = 45.0, 60.0, 20.0, 2.0
SETTLE_S, SMOKE_SETTLE_S = 1.2, 0.2
"""Longer than a heartbeat, so that what that needs is there."""
COPIES_MARGIN = 0.25
"""Read buffers and the allocator's rounding, as a part of a body of 8 MiB: 2 MiB."""

_KEY = "0123456789abcdef0123456789abcdef"


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Measure everything, with a new runner for each round and mode."""
    rounds: dict[str, list[dict[str, float]]] = {}
    for _ in range(1 if scale.smoke else min(scale.rounds, 3)):
        for mode in modes(wanted or (COMPILED, PURE))[: 1 if scale.smoke else None]:
            seen = (
                _without_plugins(mode, scale.smoke)
                | _routes(mode, scale.smoke)
                | _connections(mode, scale.smoke)
                | _bodies(mode, scale.smoke)
            )
            rounds.setdefault(mode.name, []).append(seen)
            note(f"memory, {mode.name}: " + ", ".join(f"{name} {value:.1f}" for name, value in seen.items()))
    return {
        "routes": SMOKE_ROUTES if scale.smoke else ROUTES,
        "connections": SMOKE_CONNECTIONS if scale.smoke else CONNECTIONS,
        "body_bytes": SMOKE_BODY if scale.smoke else BODY,
        "modes": {name: {what: spread([each[what] for each in seen]) for what in seen[0]} for name, seen in rounds.items()},
    }


def _without_plugins(mode: Mode, smoke: bool) -> dict[str, float]:
    """A worker that has served a call of a built-in plugin, alone and together with three others."""
    found = {}
    for workers in (1, 4):
        with _running(mode, workers=workers, plugins=False) as (path, pids):
            caller = Caller(path)
            stop = replace(_case("noop"), plugins=[("stop", "{}")])
            caller.call(stop.call(1, caller.prepare(stop.prepare())))
            _settle(smoke)
            found[f"worker_of_{workers}_mib"] = max(_pss(pid) for pid in pids[1:]) / MIB
            if workers == 1:
                found["supervisor_mib"] = _pss(pids[0]) / MIB
    return found


def _routes(mode: Mode, smoke: bool) -> dict[str, float]:
    """Routes that were prepared and have served a call: a plugin with a typed configuration, one without, and different keys."""
    count = SMOKE_ROUTES if smoke else ROUTES
    noop = _case("noop")
    with _running(mode) as (path, pids):
        caller = Caller(path)
        caller.call(noop.call(1, caller.prepare(noop.prepare())))
        _settle(smoke)
        before = _grown(pids)
        for number in range(count):
            conf = [("bench-noop", ""), ("bench-set-header", f'{{"name":"x-route-{number}","realm":"{_KEY}"}}')]
            token = caller.prepare(PrepareConfReq(conf, f"route#{number}#ext-plugin-pre-req#1"))
            caller.call(noop.call(number, token))
        return {"routes_mib": (_grown(pids) - before) / MIB}


def _connections(mode: Mode, smoke: bool) -> dict[str, float]:
    """Connections on which nothing was ever sent, and connections that have served a call and are idle."""
    count = SMOKE_CONNECTIONS if smoke else CONNECTIONS
    noop = _case("read-set")
    found = {}
    for name, calls in (("silent_connection_kib", False), ("idle_connection_kib", True)):
        with _running(mode) as (path, pids):
            first = Caller(path)
            token = first.prepare(noop.prepare())
            first.call(noop.call(1, token))
            _settle(smoke)
            before = _grown(pids)
            callers = [Caller(path) for _ in range(count)]
            if calls:
                for caller in callers:
                    caller.call(noop.call(1, token))
            else:
                _settle(smoke)  # until all are passed on
            _settle(smoke)
            found[name] = (_grown(pids) - before) / KIB / count
            for caller in callers:
                caller.close()
    return found


def _bodies(mode: Mode, smoke: bool) -> dict[str, float]:
    """The maximum number of copies of a body: while it is read, and while it is read and another one of the same size is sent."""
    size = SMOKE_BODY if smoke else BODY
    found = {}
    read = replace(_case("body"), body_bytes=size)
    replaced = replace(read, plugins=[("bench-replace-body", f'{{"size":{size}}}')])
    for name, case in (("body_read_copies", read), ("body_replaced_copies", replaced)):
        with _running(mode) as (path, pids):
            caller, other = Caller(path, case.body()), Caller(path, b"x")
            token = caller.prepare(case.prepare())
            other.call(case.call(1, token))  # builds the chain; the plugin makes the body that it will send, which is none of our copies
            _settle(smoke)
            worker = pids[1]
            before = _field(worker, "status", "VmRSS")
            Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak is that of now. Source: proc(5)
            caller.call(case.call(2, token))
            found[name] = (_field(worker, "status", "VmHWM") - before) / size
    return found


def _settle(smoke: bool) -> None:
    time.sleep(SMOKE_SETTLE_S if smoke else SETTLE_S)


@contextmanager
def _running(mode: Mode, *, workers: int = 1, plugins: bool = True) -> Iterator[tuple[Path, list[int]]]:
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        yield stack.enter_context(runner(directory, mode, workers=workers, plugins=plugins))


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def _pss(pid: int) -> int:
    return _field(pid, "smaps_rollup", "Pss")


def _grown(pids: Sequence[int]) -> int:
    """Return the anonymous memory of all these processes, in total."""
    return sum(_field(pid, "smaps_rollup", "Pss_Anon") for pid in pids)


def _field(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    raise CannotMeasure(f"/proc/{pid}/{file} has no {name} on this system.")


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str, float]]:
    """Return description, key, unit and limit (0 for none)."""
    full = result["routes"] == ROUTES
    body = f"a body of {result['body_bytes'] // MIB} MiB"
    return [
        ("a worker without plugins", "worker_of_1_mib", " MiB", WORKER_MIB),
        ("each of four workers without plugins", "worker_of_4_mib", " MiB", 0),
        ("the supervisor", "supervisor_mib", " MiB", 0),
        (f"{result['routes']:,} routes, prepared and used", "routes_mib", " MiB", ROUTES_MIB if full else 0),
        ("a connection on which nothing was sent", "silent_connection_kib", " KiB", CONNECTION_KIB),
        ("an idle connection, after a call", "idle_connection_kib", " KiB", CONNECTION_KIB),
        (f"{body}, read: copies at once", "body_read_copies", "", COPIES),
        (f"{body}, read and replaced: copies at once", "body_replaced_copies", "", COPIES),
    ]


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    names = list(result["modes"])
    lines = ["| what |" + "".join(f" {name} |" for name in names) + " target |", "|---|" + "---:|" * (len(names) + 1)]
    for what, key, unit, limit in _rows(result):
        cells = "".join(f" {shown(result['modes'][name][key], unit)} |" for name in names)
        lines.append(f"| {what} |{cells} {f'<= {limit:g}{unit}' if limit else ''} |")
    return "\n".join(lines)


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare with the targets."""
    found = []
    for what, key, unit, limit in _rows(result):
        for name, mode in result["modes"].items():
            if limit:
                value = mode[key]["median"]
                allowed = limit + COPIES_MARGIN if limit == COPIES else limit
                found.append(Target(f"{what}, {name}", f"<= {limit:g}{unit}", f"{value:.1f}{unit}", value <= allowed))
    return found


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw each figure as a part of its target."""
    rows = [row for row in _rows(result) if row[3]]
    for number, (name, mode) in enumerate(result["modes"].items()):
        axes.barh(
            [place + 0.4 * number for place in range(len(rows))],
            [mode[key]["median"] / limit for _, key, _, limit in rows],
            0.38,
            color=COLOURS.get(name),
            label=name,
        )
    axes.axvline(1, color="#d62728", linewidth=1.5, label="target")
    axes.set_yticks([place + 0.2 for place in range(len(rows))], [what for what, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("as a part of the target")
    axes.legend(fontsize="small")
