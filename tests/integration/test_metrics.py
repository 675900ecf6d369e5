# SPDX-License-Identifier: Apache-2.0
"""Metrics and health of a real runner: what Prometheus and a probe get, whatever happens to the workers."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.other_user import NOBODY, ask_as, needs_root
from tests.peer import HungUp, Peer
from tests.ports import reserved_port
from tests.runner_process import RunnerProcess, running

PLUGIN = '''
import os
import time

from prometheus_client import Counter

from apisix import Plugin, Reply, Request, Response

SEEN = Counter("seen", "Requests that were seen.", ["path"])


class Do(Plugin[str]):
    """Do what the configuration says."""

    def on_request(self, request: Request) -> Reply | None:
        SEEN.labels(request.path).inc()
        if self.config == "stop":
            return Reply(204)
        if self.config == "raise":
            raise ValueError
        if self.config == "rewrite":
            request.headers["x"] = request.var("request_id") or "1"
        if self.config == "exit":
            os._exit(1)
        return None

    async def on_response(self, response: Response) -> None:
        if self.config == "hang":
            import asyncio

            await asyncio.sleep(60)
'''
WITHIN_S = 15.0


@contextmanager
def metered(tmp_path: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[tuple[RunnerProcess, int]]:
    """A runner with metrics, and the port of the metrics."""
    (tmp_path / "do.py").write_text(PLUGIN)
    with (
        reserved_port() as port,
        running(
            *arguments, plugins=[tmp_path], environ={"APISIX_RUNNER_METRICS_ADDRESS": f"127.0.0.1:{port}", **(environ or {})}
        ) as runner,
    ):
        wait_for(lambda: fetch(port, "/health")[0] == 200)
        yield runner, port


def fetch(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body, or 0 if nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WITHIN_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def metrics(port: int) -> dict[str, float]:
    """Return all values, by name and labels, as a strict reader of Prometheus's format sees them."""
    status, text = fetch(port, "/metrics")
    assert status == 200
    values = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(sample.labels[name] for name in sorted(sample.labels))
            values[f"{sample.name.removeprefix('apisix_runner_')}{{{labels}}}"] = sample.value
    return values


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once `condition` is true. Raise AssertionError if that takes too long."""
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not become true"
        time.sleep(0.02)


def wait_for_values(port: int, expected: Mapping[str, float]) -> dict[str, float]:
    """Return when the metrics have these values."""
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        values = metrics(port)
        found = {name: values.get(name, 0.0) for name in expected}
        if found == expected:
            return values
        assert time.monotonic() < deadline_s, f"expected {expected}, found {found}"
        time.sleep(0.02)


def test_what_is_counted(tmp_path: Path) -> None:
    """Outcomes, info requests, tokens and connections are counted over all workers, and so are the metrics of plugins."""
    with metered(tmp_path, "--workers", "2", environ={"APISIX_RUNNER_LIMITS_PLUGIN_TIMEOUT": "0.1"}) as (runner, port):
        peers = [runner.peer() for _ in range(4)]
        tokens = {word: peers[0].prepare(("do", word)) for word in ("pass", "stop", "raise", "rewrite")}
        refused = peers[0].prepare(("nope", "{}"))
        for peer in peers:
            for token in tokens.values():
                peer.request(token, path="/a")
            peer.request(refused)
            peer.request(12345)
        hang = peers[0].prepare(("do", "hang"), key="route#1#ext-plugin-post-resp#1")
        peers[0].respond(hang)
        values = wait_for_values(
            port,
            {
                "plugin_calls_total{continue,ext-plugin-pre-req,do}": 4,
                "plugin_calls_total{stop,ext-plugin-pre-req,do}": 4,
                "plugin_calls_total{error,ext-plugin-pre-req,do}": 4,
                "plugin_calls_total{rewrite,ext-plugin-pre-req,do}": 4,
                "plugin_calls_total{timeout,ext-plugin-post-resp,do}": 1,
                "plugin_duration_seconds_count{ext-plugin-pre-req,do}": 16,
                "plugin_duration_seconds_bucket{0.05,ext-plugin-post-resp,do}": 0,
                "calls_total{}": 4 * 6 + 1,
                "calls_refused_total{}": 4,
                "tokens_missed_total{}": 4,
                "tokens_known{}": 6,
                "asks_total{}": 4,
                "connections{}": 4,
                "workers{serving}": 2,
                "seen_total{/a}": 16,
            },
        )
        for peer in peers:
            peer.close()
        wait_for_values(port, {"connections{}": 0})

    assert values["loop_lag_seconds_count{}"] > 0
    assert values["memory_bytes{supervisor}"] > 1 << 20
    assert not any(name.startswith(("process_", "python_")) for name in values)  # these describe one process only


def test_the_phase_is_read_from_each_form_of_key(tmp_path: Path) -> None:
    """The label `phase` has the phase of the key, also if a plugin config adds a fifth part, and if a key names several objects."""
    keys = {
        "route#pc#ext-plugin-pre-req#1795858440#1795858440": 1,
        "route#pc#ext-plugin-post-req#1795858440#1795858440": 2,
        "route&service&consumer#a&b&jack#ext-plugin-post-req#1&2&3": 3,
        "plugin_config&route#a#b#c#ext-plugin-post-req#1&2": 4,
        "global_rule#1#ext-plugin-pre-req#7": 5,
    }
    response_keys = {"route#pc#ext-plugin-post-resp#1795858440#1795858440": 6, "service#1#ext-plugin-post-resp#1": 7}
    with metered(tmp_path) as (runner, port), runner.peer() as peer:
        for key, calls in keys.items():
            token = peer.prepare(("do", "stop"), key=key)
            for _ in range(calls):
                peer.request(token, path="/a")
        for key, calls in response_keys.items():
            token = peer.prepare(("do", "pass"), key=key)
            for _ in range(calls):
                peer.respond(token)
        values = wait_for_values(
            port,
            {
                "plugin_calls_total{stop,ext-plugin-pre-req,do}": 1 + 5,
                "plugin_calls_total{stop,ext-plugin-post-req,do}": 2 + 3 + 4,
                "plugin_calls_total{continue,ext-plugin-post-resp,do}": 6 + 7,
                "plugin_duration_seconds_count{ext-plugin-pre-req,do}": 1 + 5,
                "plugin_duration_seconds_count{ext-plugin-post-req,do}": 2 + 3 + 4,
                "plugin_duration_seconds_count{ext-plugin-post-resp,do}": 6 + 7,
            },
        )

    phases = {name.split(",")[1] for name in values if name.startswith("plugin_calls_total{")}
    assert phases == {"ext-plugin-pre-req", "ext-plugin-post-req", "ext-plugin-post-resp"}


def test_no_counter_goes_backwards(tmp_path: Path) -> None:
    """A reload loses no counts. When a worker is killed, only the counts of its last second are lost. Restarts are counted."""
    with metered(tmp_path, "--workers", "2") as (runner, port):
        with runner.peer() as peer:
            token = peer.prepare(("do", "stop"))
            for _ in range(5):
                peer.request(token, path="/a")
            before = {"plugin_calls_total{stop,ext-plugin-pre-req,do}": 5.0, "seen_total{/a}": 5.0, "calls_total{}": 5.0}
            wait_for_values(port, before)
            runner.process.send_signal(signal.SIGHUP)
            runner.wait_for_log("in the place of")
            peer.request(token, path="/a")
            after = dict.fromkeys(before, 6.0)
            lowest = dict(before)

            def does_not_fall() -> bool:
                values = metrics(port)
                for name in before:
                    assert values.get(name, 0.0) >= lowest[name]
                    lowest[name] = values[name]
                return lowest == after

            wait_for(does_not_fall)
            exits = peer.prepare(("do", "exit"))
        with runner.peer() as peer, pytest.raises((HungUp, ConnectionError)):  # it ends with its worker
            peer.request(exits, path="/exit")
        values = wait_for_values(port, {"worker_restarts_total{}": 1, "workers{serving}": 2, **after})

    assert values["workers{leaving}"] == 0


@needs_root
def test_users_who_are_refused(tmp_path: Path) -> None:
    """Each connection of a user who is not allowed is counted as refused, and not as a connection."""
    with metered(tmp_path, environ={"APISIX_RUNNER_SOCKET_MODE": "0666"}) as (runner, port):
        wait_for_values(port, {"connections{}": 0})
        runner.path.parent.chmod(0o755)
        for _ in range(3):
            assert ask_as(NOBODY, runner.path) == "b''"
        values = wait_for_values(port, {"peers_refused_total{}": 3, "connections{}": 0})

    assert values["connections_refused_total{}"] == 0


def test_connections_that_are_refused(tmp_path: Path) -> None:
    """A connection beyond the limit is closed, and counted."""
    with metered(tmp_path, environ={"APISIX_RUNNER_LIMITS_MAX_CONNECTIONS": "1"}) as (runner, port):
        wait_for_values(port, {"connections{}": 0})  # the one with which the test saw that the runner is up is gone
        with runner.peer() as first:
            first.prepare()
            with runner.peer() as second:
                assert second.socket.recv(1) == b""
            values = wait_for_values(port, {"connections{}": 1})

    assert values["connections_refused_total{}"] >= 1
    assert values["peers_refused_total{}"] == 0


def test_health_without_workers(tmp_path: Path) -> None:
    """While no process serves, the probe reports it."""
    with metered(tmp_path) as (runner, port):
        children = [int(pid) for pid in Path(f"/proc/{runner.process.pid}/task/{runner.process.pid}/children").read_text().split()]
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: fetch(port, "/health") == (503, b'{"ok": false, "workers": 1, "silent": 1}\n'))
        finally:
            for pid in children:
                os.kill(pid, signal.SIGCONT)
        wait_for(lambda: fetch(port, "/health")[0] == 200)


def test_a_successor_gets_the_address(tmp_path: Path) -> None:
    """A runner that takes over the socket also takes over the metrics, as soon as the first one notices."""
    with metered(tmp_path) as (runner, port):
        environ = {**os.environ, "APISIX_RUNNER_METRICS_ADDRESS": f"127.0.0.1:{port}"}
        second = subprocess.Popen(
            [sys.executable, "-m", "apisix", "start", "--socket", str(runner.path)], stderr=subprocess.PIPE, env=environ, text=True
        )
        try:
            assert second.stderr is not None
            for line in second.stderr:
                if f"metrics are at http://127.0.0.1:{port}/metrics" in line:
                    break
            assert fetch(port, "/metrics")[0] == 200
        finally:
            second.terminate()
            second.communicate(timeout=WITHIN_S)
            runner.process.wait(WITHIN_S)


def test_settings_that_cannot_be_met() -> None:
    """An address that other machines can reach ends the start with a message, and leaves no socket behind."""
    done = subprocess.run(
        [sys.executable, "-m", "apisix", "start", "--socket", "/nowhere/r.sock"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "APISIX_RUNNER_METRICS_ADDRESS": "0.0.0.0:9092"},  # it is refused
        timeout=WITHIN_S,
    )

    assert done.returncode == 2
    assert re.fullmatch(r"apisix-runner: metrics\.address is '0\.0\.0\.0:9092', which other machines can reach\. .*\n", done.stderr)


def test_off(tmp_path: Path) -> None:
    """Without the setting, nothing listens, and the library is not imported."""
    (tmp_path / "look.py").write_text(
        "import sys\nfrom apisix import Plugin, Reply, Request\n"
        "class Look(Plugin):\n    def on_request(self, request: Request) -> Reply:\n"
        "        return Reply(200, str('prometheus_client' in sys.modules))\n"
    )
    with running(plugins=[tmp_path]) as runner, Peer(runner.path) as peer:
        reply = peer.request(peer.prepare(("look", "")))

    assert reply.action.body == b"False"
