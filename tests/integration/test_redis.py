# SPDX-License-Identifier: Apache-2.0
"""The shared store in Redis, through real runners."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp
from tests.peer import Peer
from tests.runner_process import RunnerProcess, running
from tests.state.redis_process import Setup
from tests.state.redis_process import running as running_redis

pytestmark = pytest.mark.process

SECRET = "pa55word"  # noqa: S105  # it must not be in any log
COUNTS = """
from apisix import Plugin


class Counts(Plugin):
    async def on_request(self, request):
        request.headers["x-count"] = str(await self.store.aincr("calls", ttl_s=600))


class CountsPlainly(Plugin):
    def on_request(self, request):
        request.headers["x-count"] = str(self.store.incr("calls", fallback=-1))


class CountsInProcess(Plugin):
    runs_in = "process"

    def on_request(self, request):
        request.headers["x-count"] = str(self.store.incr("calls"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Setup]:
    """A server with a password."""
    with running_redis(password=SECRET) as setup:
        yield setup


@pytest.fixture
def plugins(tmp_path: Path) -> list[Path]:
    """A directory with plugins that count their calls."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "counts.py").write_text(COUNTS)
    return [tmp_path / "plugins"]


def count(peer: Peer, plugin: str) -> int | ErrResp:
    """Call a plugin, and return what it has counted, or its error."""
    reply = peer.request(peer.prepare((plugin, "{}")))
    return reply if isinstance(reply, ErrResp) else int(str(dict(reply.action.headers)["x-count"]))


def with_password(server: Setup) -> dict[str, str]:
    """Return the environment of a runner that uses a server."""
    return {"APISIX_RUNNER_STATE_URL": server.url, "APISIX_RUNNER_WORKERS_COUNT": "2"}


def counts(runner: RunnerProcess, plugin: str, times: int) -> list[int | ErrResp]:
    """Call a plugin on connections of its own, which most often have several workers."""
    results = []
    for _ in range(times):
        with runner.peer() as peer:
            results.append(count(peer, plugin))
    return results


def test_workers_of_two_runners_share_the_store(server: Setup, plugins: list[Path]) -> None:
    """No call is lost or counted twice, whichever worker of whichever runner has it, also after a worker was killed."""
    environ = with_password(server)
    with running(plugins=plugins, environ=environ) as one, running(plugins=plugins, environ=environ) as other:
        found = counts(one, "counts", 10) + counts(other, "counts", 10)
        os.kill(one.process.pid, signal.SIGHUP)
        found += counts(one, "counts", 10)
        logs = one.log() + other.log()

    assert found == list(range(1, 31))
    assert SECRET not in logs


@pytest.mark.parametrize("plugin", ["counts-plainly", "counts-in-process"])
def test_other_hooks(server: Setup, plugins: list[Path], plugin: str) -> None:
    """Plain methods, and processes of the pool, use the same server."""
    with running(plugins=plugins, environ=with_password(server)) as one:
        found = counts(one, plugin, 6)

    assert found == [1, 2, 3, 4, 5, 6]


def test_redis_that_stops(plugins: list[Path]) -> None:
    """While Redis is down, calls are refused, or continue with the fallback of the plugin. Afterwards, they succeed again."""
    with running_redis() as own, running(plugins=plugins, environ=with_password(own)) as runner, runner.peer() as peer:
        before = [count(peer, "counts"), count(peer, "counts-plainly")]
        own.servers[0].stop()
        during = [count(peer, "counts"), count(peer, "counts-plainly")]
        runner.wait_for_log("continues with its fallback", "Redis is not available")
        own.servers[0].start()
        after = [count(peer, "counts"), count(peer, "counts-plainly")]

    assert before == [1, 1]
    assert during == [ErrResp(ErrCode.SERVICE_UNAVAILABLE), -1]
    assert after == [1, 1]  # this server has kept nothing


def test_url_that_cannot_be_read(tmp_path: Path) -> None:
    """The runner does not start. The password is not in the message."""
    file = tmp_path / "url"
    file.write_text(f"redis://:{SECRET}/@h")
    refused = pytest.raises(AssertionError, match=r"the URL of state\.url can't be used")
    with refused as raised, running(environ={"APISIX_RUNNER_STATE_URL": f"file:{file}"}):
        pass
    assert SECRET not in str(raised.value)
