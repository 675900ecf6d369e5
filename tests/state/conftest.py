# SPDX-License-Identifier: Apache-2.0
"""A store in each place in which entries can be kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from apisix import Store
from apisix.runner.state.backend import Backend
from apisix.runner.state.embedded import EmbeddedBackend
from apisix.runner.state.memory import MemoryBackend
from apisix.runner.state.redis_server import RedisBackend
from tests.state.redis_process import SETUPS, Setup


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use the event loop of the workers, whose exceptions differ from those of asyncio."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Place:
    """A backend, and how to let time pass for it."""

    backend: Backend
    advance: Callable[[float], None]

    def store(self, name: str = "limits") -> Store:
        """Return a store whose entries are in this place."""
        return Store(name, _backend=lambda: self.backend)


class Clock:
    """The time, in seconds since 1970, that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class SlowRedis(RedisBackend):
    """A server whose clock is slow: lifetimes are longer by a factor. So a busy machine does not let entries expire."""

    FACTOR = 1000

    def put(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return super().put(key, payload, self._longer(ttl_ms), if_absent=if_absent)

    async def aput(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return await super().aput(key, payload, self._longer(ttl_ms), if_absent=if_absent)

    def cas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        return super().cas(key, expected, payload, ttl_ms if expected is None else self._longer(ttl_ms))

    async def acas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        return await super().acas(key, expected, payload, ttl_ms if expected is None else self._longer(ttl_ms))

    def incr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return super().incr(key, by, self._longer(ttl_ms))

    async def aincr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return await super().aincr(key, by, self._longer(ttl_ms))

    def expire(self, key: bytes, ttl_ms: int | None) -> bool:
        return super().expire(key, self._longer(ttl_ms))

    async def aexpire(self, key: bytes, ttl_ms: int | None) -> bool:
        return await super().aexpire(key, self._longer(ttl_ms))

    def ttl(self, key: bytes) -> int | None:
        return self._shorter(super().ttl(key))

    async def attl(self, key: bytes) -> int | None:
        return self._shorter(await super().attl(key))

    def _longer(self, ttl_ms: int | None) -> int | None:
        return None if ttl_ms is None else ttl_ms * self.FACTOR

    def _shorter(self, ttl_ms: int | None) -> int | None:
        return ttl_ms if ttl_ms is None or ttl_ms < 0 else max(1, ttl_ms // self.FACTOR)


def embedded(tmp_path: Path) -> Iterator[Place]:
    clock = Clock()
    backend = EmbeddedBackend(tmp_path / "state.mdb", 1 << 20, clock)
    yield Place(backend, clock.advance)
    backend.close()


def memory(tmp_path: Path) -> Iterator[Place]:
    backend = MemoryBackend()
    yield Place(backend, backend.advance)


IN_PROCESS: dict[str, Callable[[Path], Iterator[Place]]] = {"memory": memory, "embedded": embedded}


@pytest.fixture(scope="module", params=[*IN_PROCESS, *(pytest.param(name, marks=pytest.mark.process) for name in SETUPS)])
def kind(request: pytest.FixtureRequest) -> Iterator[str | Setup]:
    """The name of a place in this process, or servers that are started once for a module."""
    if request.param in IN_PROCESS:
        yield request.param
        return
    with SETUPS[request.param]() as setup:
        yield setup


@pytest.fixture
async def place(kind: str | Setup, tmp_path: Path) -> AsyncIterator[Place]:
    """Each place in turn. They must not differ for plugins."""
    if isinstance(kind, str):
        for place in IN_PROCESS[kind](tmp_path):
            yield place
        return
    kind.clear()
    backend = SlowRedis(kind.url, 4, 30.0)
    yield Place(backend, lambda seconds: kind.advance(seconds * SlowRedis.FACTOR))
    await backend.aclose()


@pytest.fixture
def store(place: Place) -> Store:
    """Return an empty store."""
    return place.store()
