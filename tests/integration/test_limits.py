# SPDX-License-Identifier: Apache-2.0
"""The limits of the examples through real workers: of many requests at the same time, exactly as many pass as the limit allows."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, Rewrite, Stop
from tests.peer import Peer
from tests.runner_process import RunnerProcess, running
from tests.soak.stage import children
from tests.state import redis_process

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
CONNECTIONS = 24
CALLS = 10
"""How many calls are made over each connection, one after the other."""
SHOW_PID = '''
import os
from apisix import Plugin

class ShowPid(Plugin):
    """Add the worker to the request."""

    def on_request(self, request):
        request.headers["x-pid"] = str(os.getpid())
'''
LIMITS = {
    "limit-count": {"group": "demo", "count": 130, "time_window": 86400},
    # One request in 11 days, so that only the burst and one pass, however long the test takes.
    "limit-req": {"group": "demo", "rate": 1e-6, "burst": 129, "nodelay": True},
}
ALLOWED = 130
"""More than the calls to one of two machines, so that both let some pass."""
ALL = CONNECTIONS * CALLS


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the plugins under test."""
    directory = tmp_path_factory.mktemp("plugins")
    for name in LIMITS:
        shutil.copy(EXAMPLES / f"{name.replace('-', '_')}.py", directory)
    (directory / "show_pid.py").write_text(SHOW_PID)
    return directory


@contextmanager
def machine(plugins: Path, workers: int, **environ: str) -> Iterator[RunnerProcess]:
    """Run a runner that has its own memory for the store, as another machine would have."""
    settings = {"APISIX_RUNNER_STATE_SIZE": "1MiB", **environ}
    with running("--workers", str(workers), plugins=[plugins], environ=settings) as runner:
        yield runner


def call(machines: Sequence[RunnerProcess], plugin: str) -> tuple[Counter[str], set[str]]:
    """Make many calls at the same time. Return how many had each result, and the workers that let some pass."""
    results: list[str] = []
    pids = set()
    start = threading.Barrier(CONNECTIONS, timeout=60)

    def make_calls(peer: Peer) -> None:
        token = peer.prepare(("show-pid", ""), (plugin, json.dumps(LIMITS[plugin])))
        start.wait()
        for _ in range(CALLS):
            reply = peer.request(token)
            results.append(outcome(reply))
            if isinstance(reply, HTTPReqCallResp) and isinstance(reply.action, Rewrite):
                pids.add(dict(reply.action.headers)["x-pid"] or "")

    with ExitStack() as stack:
        peers = [stack.enter_context(machines[number % len(machines)].peer(60)) for number in range(CONNECTIONS)]
        threads = [threading.Thread(target=make_calls, args=(peer,)) for peer in peers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return Counter(results), pids


def outcome(reply: Any) -> str:
    """Return what the gateway does after a reply."""
    if isinstance(reply, ErrResp):
        return f"error {ErrCode(reply.code).name}"
    if isinstance(reply.action, Stop):
        return str(reply.action.status)
    return "passed"


@pytest.mark.parametrize("plugin", LIMITS)
def test_several_workers(plugins: Path, plugin: str) -> None:
    """Four workers together let exactly as many requests pass as the limit allows."""
    with machine(plugins, 4) as runner:
        results, pids = call([runner], plugin)

    assert results == {"passed": ALLOWED, "429": ALL - ALLOWED}
    assert len(pids) > 1


@pytest.mark.parametrize("plugin", LIMITS)
def test_several_machines(plugins: Path, plugin: str) -> None:
    """Two machines with two workers each, and one Redis, together let exactly as many requests pass as the limit allows."""
    with redis_process.running() as server, ExitStack() as stack:
        machines = [stack.enter_context(machine(plugins, 2, **in_redis(server.url))) for _ in range(2)]
        results, pids = call(machines, plugin)
        pids_of = [set(map(str, children(each.process.pid))) for each in machines]

    assert results == {"passed": ALLOWED, "429": ALL - ALLOWED}
    assert all(pids & each for each in pids_of)


@pytest.mark.parametrize("plugin", LIMITS)
def test_redis_that_is_stopped(plugins: Path, plugin: str) -> None:
    """While Redis is stopped, no request passes: all are refused. When it runs again, it has no entries, so the limit begins again."""
    with redis_process.running() as server, machine(plugins, 2, **in_redis(server.url)) as runner:
        before, _ = call([runner], plugin)
        server.servers[0].stop()
        without, _ = call([runner], plugin)
        server.servers[0].start()
        after, _ = call([runner], plugin)

    assert before == {"passed": ALLOWED, "429": ALL - ALLOWED}
    assert without == {"error SERVICE_UNAVAILABLE": ALL}
    assert after == before


def in_redis(url: str) -> dict[str, str]:
    """Return the settings for a store in Redis. On a busy machine, Redis can be slow."""
    return {"APISIX_RUNNER_STATE_URL": url, "APISIX_RUNNER_STATE_TIMEOUT": "30s"}
