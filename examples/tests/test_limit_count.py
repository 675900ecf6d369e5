# SPDX-License-Identifier: Apache-2.0
"""plugins/limit_count.py, with a Redis server that the test starts."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """Return the URL of a server on a unix socket, which writes nothing to disk."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("there is no redis-server: apt-get install redis-server")
    # tmp_path is too long for the path of a socket.
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        socket = Path(directory, "redis.sock")
        command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            log: list[str] = []
            for line in process.stdout:
                log.append(line)
                if "eady to accept connections" in line:
                    break
            else:
                pytest.fail("redis-server has ended: " + "".join(log))
            yield f"unix://{socket}"
            process.terminate()
            process.communicate()


def config(redis_url: str, name: str, **more: object) -> tuple[str, dict[str, object]]:
    """Return an entry of a route. Each test uses another name, so counts are separate."""
    return "limit-count", {"name": name, "count": 2, "window_s": 60, "redis": redis_url, **more}


def test_quota(client: Client, redis_url: str) -> None:
    """The client gets the number of remaining calls, and the time to wait when none is left."""
    results = [client.get("/", plugins=[config(redis_url, "quota")]) for _ in range(3)]
    reply = results[2].reply

    assert [result.client_headers["x-ratelimit-remaining"] for result in results[:2]] == ["1", "0"]
    assert (reply.status, reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"]) == (429, "2", "0")
    assert 0 < int(reply.headers["retry-after"]) <= 60


def test_gateways_count_together(client: Client, apisix_registry: Registry, redis_url: str) -> None:
    """Two runners count together."""
    with Client(registry=apisix_registry) as other:
        results = [each.get("/", plugins=[config(redis_url, "together")]) for each in (client, other, client, other)]

    assert [result.stopped for result in results] == [False, False, True, True]


async def test_calls_at_the_same_time(apisix_registry: Registry, redis_url: str) -> None:
    """Exactly two of ten simultaneous calls pass. The calls overlap, because this is an async test."""
    async with Client(registry=apisix_registry) as client:
        results = await asyncio.gather(*(client.aget("/", plugins=[config(redis_url, "race")]) for _ in range(10)))

    assert sum(not result.stopped for result in results) == 2


def test_each_consumer_for_itself(client: Client, redis_url: str) -> None:
    """The variable that identifies a client can be configured."""
    plugins = [config(redis_url, "consumers", key="consumer_name", count=1)]
    results = [client.get("/", plugins=plugins, vars={"consumer_name": name}) for name in ("ali", "cassim", "ali")]

    assert [result.stopped for result in results] == [False, False, True]


def test_window_ends(client: Client, redis_url: str) -> None:
    """After the window, calls are allowed again."""
    plugins = [config(redis_url, "window", count=1)]
    first = client.get("/", plugins=plugins)
    with redis.Redis.from_url(redis_url) as server:  # pyright: ignore[reportUnknownMemberType]
        (key,) = server.keys("limit-count:window:*")  # pyright: ignore[reportUnknownMemberType]
        server.pexpire(key, 1)  # so that the test does not have to wait for a minute
        until_s = time.monotonic() + 10
        while server.exists(key) and time.monotonic() < until_s:
            pass
    second = client.get("/", plugins=plugins)

    assert (first.stopped, second.stopped) == (False, False)


def test_without_redis(client: Client) -> None:
    """If Redis is not available, calls are refused."""
    plugins = [config("unix:///nowhere/redis.sock", "down")]
    result = client.get("/", plugins=plugins, raise_errors=False)

    assert result.reply.status == 503
    with pytest.raises(redis.ConnectionError):
        client.get("/", plugins=plugins)
