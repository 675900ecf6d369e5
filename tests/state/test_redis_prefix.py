# SPDX-License-Identifier: Apache-2.0
"""Environments that share a Redis: each has its own prefix of keys."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest
import redis

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.settings.table import Settings
from apisix.runner.state.backend import Backend
from apisix.runner.worker.shared_store import opener_for
from tests.state.redis_process import SETUPS, Setup, running
from tests.state.test_outage import ASYNC, PLAIN

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", params=SETUPS)
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    """Servers that are started once for the module: one server, one with sentinels, and a cluster."""
    with SETUPS[request.param]() as setup:
        yield setup


def opened(setup: Setup, prefix: str | None = None) -> Backend:
    """Return the store of a runner, with the default prefix or another one."""
    settings = Settings(state_url=setup.url, state_timeout_s=30.0)
    return opener_for(settings if prefix is None else msgspec.structs.replace(settings, state_prefix=prefix))()


def keys_of(setup: Setup) -> list[bytes]:
    """Return the keys of all servers."""
    found: set[bytes] = set()
    for server in setup.servers:
        with server.client() as client, suppress(redis.ConnectionError):
            found.update(client.keys("*"))
    return sorted(found)


async def test_environments_are_separate(setup: Setup) -> None:
    """The same key of the same store is another entry in each environment, for all operations that return something."""
    setup.clear()
    backends = [opened(setup), opened(setup, "staging"), opened(setup, "production")]
    first, *others = (Store("limits", _backend=lambda backend=backend: backend) for backend in backends)  # type: ignore[misc]
    first.set("n", 5)
    first.set("{tag}n", 6)
    assert first.throttle("rate", 0.001)[0]
    assert first.lock("job", 100) is not None

    for other in others:
        assert (other.get("n"), await other.aget_many(["n", "{tag}n"])) == (None, {})
        assert (other.incr("n"), await other.aincr("n"), other.add("{tag}n", 1)) == (1, 2, True)
        assert (other.cas("n", 5, 7), other.delete("absent"), other.ttl("absent")) == (False, False, None)
        assert other.throttle("rate", 0.001)[0]
        assert await other.alock("job", 100) is not None
    assert first.get_many(["n", "{tag}n"]) == {"n": 5, "{tag}n": 6}
    for backend in backends:
        await backend.aclose()


@pytest.mark.parametrize("prefix", [None, "staging-2.eu_west"])
async def test_all_keys_have_the_prefix(setup: Setup, prefix: str | None) -> None:
    """No operation uses a key without it."""
    setup.clear()
    backend = opened(setup, prefix)
    store = Store("limits", _backend=lambda: backend)
    for name in PLAIN:
        PLAIN[name](store)
        await ASYNC[name](store)
    store.set("last", 1)
    await store.aset("also", 1)
    await backend.aclose()

    begins = {key.rpartition(b"limits\0")[0].rstrip(b"\1") for key in keys_of(setup)}
    assert begins == {b"apisix:" if prefix is None else f"{prefix}:".encode()}


async def test_user_of_one_environment() -> None:
    """A user whose rights are limited to a prefix can't use the entries of another environment."""
    with running(on_port=True) as setup:
        (server,) = setup.servers
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "gateway", "on", ">x", "~staging:*", "+@all")
        url = f"redis://gateway:x@127.0.0.1:{server.port}"
        staging, production = (opener_for(Settings(state_url=url, state_prefix=name))() for name in ("staging", "production"))

        assert staging.incr(b"n", 1, None) == 1
        with pytest.raises(StoreError, match="permission"):
            production.incr(b"n", 1, None)
        for backend in (staging, production):
            await backend.aclose()
