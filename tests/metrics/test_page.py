# SPDX-License-Identifier: Apache-2.0
"""The pages that the supervisor shows."""

import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.ipc.channel import Channel
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics import page as metrics_page
from apisix.runner.metrics.families import Family, counter, gauge
from apisix.runner.metrics.page import check_metrics, health_page, render
from apisix.runner.metrics.page import metrics_page as page_of
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool import Crew
from apisix.runner.supervisor.worker_process import SILENT_S, Stage, WorkerProcess
from apisix.runner.worker.stack_dump import StackDump


@pytest.fixture
def crew() -> Iterator[Crew]:
    """A crew of nobody, whose workers the tests make up."""
    before = signal.getsignal(signal.SIGHUP)
    reactor = Reactor()
    crew = Crew(reactor, Settings(), 2, lambda channel, dump, marks, pid: 0)
    yield crew
    for worker in crew.workers.values():
        worker.bury()
    reactor.close()
    signal.signal(signal.SIGHUP, before)


def add_worker(crew: Crew, number: int, *, stage: Stage = Stage.SERVING, silent_s: float = 0.0) -> WorkerProcess:
    ours, theirs = socket.socketpair()
    theirs.close()
    worker = crew.workers[10**8 + number] = WorkerProcess(number, 10**8 + number, Channel(ours), StackDump(), 0)
    worker.stage = stage
    worker.heard_s = time.monotonic() - silent_s
    return worker


def test_text() -> None:
    """Metrics are written as Prometheus reads them, with what it needs escaped."""
    families = [
        counter("calls", "Calls.", ((("who", 'a"b\n'),), 2)),
        gauge("size", "Size.", ((), 0.5)),
        Family("took", "histogram", "Took.", (("took_bucket", (("le", "+Inf"),), 1.0), ("took_count", (), 1.0), ("took_sum", (), 0.25))),
    ]

    assert [
        "# HELP calls_total Calls.",
        "# TYPE calls_total counter",
        'calls_total{who="a\\"b\\n"} 2.0',
        "# HELP size Size.",
        "# TYPE size gauge",
        "size 0.5",
        "# HELP took Took.",
        "# TYPE took histogram",
        'took_bucket{le="+Inf"} 1.0',
        "took_count 1.0",
        "took_sum 0.25",
    ] == render(families).decode().splitlines()


def test_what_the_supervisor_knows(crew: Crew) -> None:
    """Workers, connections, calls, restarts and refusals are told, and the workers' own figures with them."""
    for number in (1, 2):
        worker = add_worker(crew, number)
        worker.connections, worker.in_flight = 3, 1
        crew.totals.take(number, counter("apisix_runner_calls", "Calls.", ((), 10)))
    add_worker(crew, 3, stage=Stage.STARTING)
    crew.restarts = 4
    lines = page_of(crew, (5, 6)).body.decode().splitlines()

    assert {
        'apisix_runner_workers{stage="serving"} 2.0',
        'apisix_runner_workers{stage="starting"} 1.0',
        "apisix_runner_connections 6.0",
        "apisix_runner_calls_in_flight 2.0",
        "apisix_runner_worker_restarts_total 4.0",
        "apisix_runner_peers_refused_total 5.0",
        "apisix_runner_connections_refused_total 6.0",
        "apisix_runner_calls_total 20.0",
    } <= set(lines)


@pytest.mark.parametrize(
    ("workers", "status", "told"),
    [
        ((), 503, {"ok": False, "workers": 0, "silent": 0}),
        (((Stage.STARTING, 0.0),), 503, {"ok": False, "workers": 0, "silent": 0}),
        (((Stage.SERVING, 0.0), (Stage.SERVING, SILENT_S + 1)), 200, {"ok": True, "workers": 2, "silent": 1}),
        (((Stage.SERVING, SILENT_S + 1),), 503, {"ok": False, "workers": 1, "silent": 1}),
    ],
)
def test_health(crew: Crew, workers: tuple[tuple[Stage, float], ...], status: int, told: dict[str, object]) -> None:
    """It is well as long as one worker serves whose loop turns."""
    for number, (stage, silent_s) in enumerate(workers):
        add_worker(crew, number, stage=stage, silent_s=silent_s)
    page = health_page(crew)

    assert (status, told) == (page.status, json.loads(page.body))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants metrics and has not installed their library is told what to install, before anything starts."""
    check_metrics(Settings(metrics_address="127.0.0.1:9092"))
    monkeypatch.setattr(metrics_page, "find_spec", lambda name: None)
    check_metrics(Settings())
    with pytest.raises(SettingsError, match=r"pip install 'apisix-python-plugin-runner\[metrics\]'"):
        check_metrics(Settings(metrics_address="127.0.0.1:9092"))
