# SPDX-License-Identifier: Apache-2.0
"""plugins/limit_count.py, with a Redis server of the test's own."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from apisix.runner.plugin.registry import Registry
from apisix.testing import Client


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """The URL of a server on a unix socket that keeps nothing on disk."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("there is no redis-server: apt-get install redis-server")
    # Not tmp_path: the path of a socket holds some 100 characters.
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        socket = Path(directory, "redis.sock")
        command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            log = []
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
    """Return a route's entry. Each test has a name of its own, so counts of its own."""
    return "limit-count", {"name": name, "count": 2, "window_s": 60, "redis": redis_url, **more}


def test_quota(client: Client, redis_url: str) -> None:
    """So many calls in a window, and the client is told how many are left, and when to come again."""
    results = [client.get("/", plugins=[config(redis_url, "quota")]) for _ in range(3)]
    reply = results[2].reply

    assert ["1", "0"] == [result.client_headers["x-ratelimit-remaining"] for result in results[:2]]
    assert (429, "2", "0") == (reply.status, reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"])
    assert 0 < int(reply.headers["retry-after"]) <= 60


def test_gateways_count_together(client: Client, apisix_registry: Registry, redis_url: str) -> None:
    """What one runner has let through, another one knows of."""
    with Client(registry=apisix_registry) as other:
        results = [each.get("/", plugins=[config(redis_url, "together")]) for each in (client, other, client, other)]

    assert [False, False, True, True] == [result.stopped for result in results]


async def test_calls_at_the_same_time(apisix_registry: Registry, redis_url: str) -> None:
    """Of ten calls at once two pass, and no more: Redis counts and compares in one step. An async test makes them overlap."""
    async with Client(registry=apisix_registry) as client:
        results = await asyncio.gather(*(client.aget("/", plugins=[config(redis_url, "race")]) for _ in range(10)))

    assert 2 == sum(not result.stopped for result in results)


def test_each_consumer_for_itself(client: Client, redis_url: str) -> None:
    """What counts as one client can be chosen."""
    plugins = [config(redis_url, "consumers", key="consumer_name", count=1)]
    results = [client.get("/", plugins=plugins, vars={"consumer_name": name}) for name in ("ali", "cassim", "ali")]

    assert [False, False, True] == [result.stopped for result in results]


def test_window_ends(client: Client, redis_url: str) -> None:
    """After the window the client may call again."""
    plugins = [config(redis_url, "window", count=1)]
    first = client.get("/", plugins=plugins)
    with redis.Redis.from_url(redis_url) as server:
        (key,) = server.keys("limit-count:window:*")
        server.pexpire(key, 1)  # the test need not wait for a minute
        until_s = time.monotonic() + 10
        while server.exists(key) and time.monotonic() < until_s:
            pass
    second = client.get("/", plugins=plugins)

    assert (False, False) == (first.stopped, second.stopped)


def test_without_redis(client: Client) -> None:
    """When nobody can count, nobody is let in."""
    plugins = [config("unix:///nowhere/redis.sock", "down")]
    result = client.get("/", plugins=plugins, raise_errors=False)

    assert 503 == result.reply.status
    with pytest.raises(redis.ConnectionError):
        client.get("/", plugins=plugins)
