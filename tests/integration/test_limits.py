# SPDX-License-Identifier: Apache-2.0
"""
Examples that use the store, through real workers: of many requests at the same time, exactly as many pass as the limit allows.

The second runner of these tests is another machine: it has its own memory, and only Redis in common with the first one.
"""

import hmac
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, Stop
from tests.peer import Peer
from tests.runner_process import RunnerProcess, running
from tests.soak.waiting import wait_until
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
ALLOWED = 130
"""More than the calls of one worker or machine, so that several let some pass."""


@dataclass(frozen=True)
class Case:
    """A plugin, the requests that it gets, how many of them may pass, and the status of the others."""

    plugin: str
    config: dict[str, Any]
    allowed: int = ALLOWED
    refused: str = "429"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __str__(self) -> str:
        return self.plugin


SECRET, NOW = "a secret of this hook", int(time.time())
CASES = [
    Case("limit-count", {"group": "demo", "count": ALLOWED, "time_window": 86400}),
    # One request in 11 days, so that only the burst and one pass, however long the test takes.
    Case("limit-req", {"group": "demo", "rate": 1e-5, "burst": ALLOWED - 1, "nodelay": True}),
    # Each request reserves 10 tokens for its 30 bytes, and one for the completion.
    Case("token-budget", {"tokens": ALLOWED * 11, "window_s": 366 * 86400}, body=b'{"messages":[],"max_tokens":1}'),
    Case("idempotency", {}, allowed=1, refused="409", headers={"idempotency-key": "a"}, body=b"{}"),
    Case(
        "webhook-stripe",
        {"secret": SECRET, "tolerance_s": 3600},
        allowed=1,
        refused="409",
        headers={"stripe-signature": f"t={NOW},v1={hmac.digest(SECRET.encode(), f'{NOW}.{{}}'.encode(), 'sha256').hex()}"},
        body=b"{}",
    ),
]
ALL = CONNECTIONS * CALLS


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the plugins under test."""
    directory = tmp_path_factory.mktemp("plugins")
    for case in CASES:
        shutil.copy(EXAMPLES / f"{case.plugin.replace('-', '_')}.py", directory)
    (directory / "show_pid.py").write_text(SHOW_PID)
    return directory


@contextmanager
def machine(plugins: Path, workers: int, **environ: str) -> Iterator[RunnerProcess]:
    """Run a runner that has its own memory for the store, as another machine would have."""
    settings = {"APISIX_RUNNER_STATE_SIZE": "1MiB", **environ}
    with running("--workers", str(workers), plugins=[plugins], environ=settings) as runner:
        yield runner


def call(machines: Sequence[RunnerProcess], case: Case, workers: int) -> Counter[str]:
    """Make many calls at the same time, over connections to all workers, of which there are `workers`. Return how many had each result."""
    results: list[str] = []
    start = threading.Barrier(CONNECTIONS, timeout=60)
    answers = {"consumer_name": b"ali", "request_id": b"1", "body": case.body}

    def make_calls(peer: Peer) -> None:
        token = peer.prepare((case.plugin, json.dumps(case.config)))
        start.wait()
        replies = [peer.request(token, method="POST", headers=case.headers.items(), answers=answers) for _ in range(CALLS)]
        results.extend(map(outcome, replies))

    with ExitStack() as stack:
        peers = [stack.enter_context(machines[number % len(machines)].peer(60)) for number in range(CONNECTIONS)]
        # Just after the start, one worker can have all connections. The supervisor distributes them.
        wait_until(lambda: len(set(map(pid, peers))) == workers, 60, "each worker has connections")
        threads = [threading.Thread(target=make_calls, args=(peer,)) for peer in peers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return Counter(results)


def pid(peer: Peer) -> str:
    """Return the worker that has a connection."""
    reply = peer.request(peer.prepare(("show-pid", "")))
    return str(dict(reply.action.headers)["x-pid"])


def outcome(reply: Any) -> str:
    """Return what the gateway does after a reply."""
    if isinstance(reply, ErrResp):
        return f"error {ErrCode(reply.code).name}"
    if isinstance(reply.action, Stop):
        return str(reply.action.status)
    return "passed"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_several_workers(plugins: Path, case: Case) -> None:
    """Four workers together let exactly as many requests pass as the limit allows."""
    with machine(plugins, 4) as runner:
        results = call([runner], case, 4)

    assert results == {"passed": case.allowed, case.refused: ALL - case.allowed}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_several_machines(plugins: Path, case: Case) -> None:
    """Two machines with two workers each, and one Redis, together let exactly as many requests pass as the limit allows."""
    with redis_process.running() as server, ExitStack() as stack:
        machines = [stack.enter_context(machine(plugins, 2, **in_redis(server.url))) for _ in range(2)]
        results = call(machines, case, 4)

    assert results == {"passed": case.allowed, case.refused: ALL - case.allowed}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_redis_that_is_stopped(plugins: Path, case: Case) -> None:
    """While Redis is stopped, no request passes: all get a 503. When it runs again, it has no entries, so the limit begins again."""
    with redis_process.running() as server, machine(plugins, 2, **in_redis(server.url)) as runner:
        before = call([runner], case, 2)
        server.servers[0].stop()
        without = call([runner], case, 2)
        server.servers[0].start()
        after = call([runner], case, 2)

    assert before == {"passed": case.allowed, case.refused: ALL - case.allowed}
    assert without == {"error SERVICE_UNAVAILABLE": ALL}
    assert after == before


def in_redis(url: str) -> dict[str, str]:
    """Return the settings for a store in Redis. On a busy machine, Redis can be slow."""
    return {"APISIX_RUNNER_STATE_URL": url, "APISIX_RUNNER_STATE_TIMEOUT": "30s"}
