# SPDX-License-Identifier: Apache-2.0
"""A store in each place in which entries can be kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from apisix import Store
from apisix.runner.state.backend import Backend
from apisix.runner.state.embedded import EmbeddedBackend
from apisix.runner.state.memory import MemoryBackend


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


def embedded(tmp_path: Path) -> Iterator[Place]:
    clock = Clock()
    backend = EmbeddedBackend(tmp_path / "state.mdb", 1 << 20, clock)
    yield Place(backend, clock.advance)
    backend.close()


def memory(tmp_path: Path) -> Iterator[Place]:
    backend = MemoryBackend()
    yield Place(backend, backend.advance)


PLACES: dict[str, Callable[[Path], Iterator[Place]]] = {"memory": memory, "embedded": embedded}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each place in turn. They must not differ for plugins."""
    yield from PLACES[request.param](tmp_path)


@pytest.fixture
def store(place: Place) -> Store:
    """Return an empty store."""
    return place.store()
