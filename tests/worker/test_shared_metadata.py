# SPDX-License-Identifier: Apache-2.0
"""The metadata that all workers share. tests/integration/test_metadata.py uses it in real workers."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from apisix.runner.errors import StoreError
from apisix.runner.settings.table import Settings
from apisix.runner.worker import shared_metadata
from apisix.runner.worker.shared_metadata import SharedMetadata


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a runner with two workers and a directory of its own."""
    return Settings(workers=2, socket_file=str(tmp_path / "runner.sock"), state_directory=str(tmp_path), metadata_size=1 << 20)


@pytest.fixture
def of_one(settings: Settings) -> Settings:
    """The settings of a runner with one worker."""
    return msgspec.structs.replace(settings, workers=1)


@pytest.fixture
def metadata(settings: Settings) -> Iterator[SharedMetadata]:
    """The metadata of a worker."""
    opened = SharedMetadata(settings)
    yield opened
    opened.close()


def values(metadata: SharedMetadata) -> dict[str, float]:
    """Return the metrics."""
    return {family.name.removeprefix("apisix_runner_metadata_"): family.samples[0][2] for family in metadata.families()}


def test_nothing_is_opened_before_it_is_used(metadata: SharedMetadata, tmp_path: Path) -> None:
    """A runner whose plugins do not use metadata has no file."""
    assert (values(metadata), list(tmp_path.iterdir())) == ({"entries": 0, "bytes": 0, "evictions": 0}, [])


def test_another_worker(metadata: SharedMetadata, settings: Settings) -> None:
    """What one worker has written, the next one reads and removes. It also does if the first one has exited."""
    metadata.put("r1", b"1")
    metadata.put("r2", b"2")
    metadata.close()
    other = SharedMetadata(settings)
    found = [other.get(name) for name in ("r1", "r2", "r3")]
    other.delete("r1")
    other.delete("r3")
    other.close()

    assert (found, [metadata.get(name) for name in ("r1", "r2")]) == ([b"1", b"2", None], [None, b"2"])


@pytest.fixture
def alone(of_one: Settings) -> Iterator[SharedMetadata]:
    """The metadata of an only worker."""
    opened = SharedMetadata(of_one)
    yield opened
    opened.close()


def test_one_worker(alone: SharedMetadata, settings: Settings, tmp_path: Path) -> None:
    """It keeps metadata in its own memory, without a file, until it shares it with the worker that replaces it."""
    alone.put("r1", b"1")
    alone.put("r2", b"22")
    alone.delete("r1")
    assert ([alone.get(name) for name in ("r1", "r2")], list(tmp_path.rglob("*.mdb"))) == ([None, b"22"], [])
    assert values(alone) == {"entries": 1, "bytes": 302, "evictions": 0}

    alone.share()
    alone.put("r3", b"3")
    assert ([alone.get(name) for name in ("r2", "r3")], values(alone)["entries"]) == ([b"22", b"3"], 2)
    alone.close()
    other = SharedMetadata(settings)
    assert [other.get(name) for name in ("r1", "r2", "r3")] == [None, b"22", b"3"]
    other.close()


def test_one_worker_of_the_next_runner(alone: SharedMetadata, of_one: Settings) -> None:
    """It finds what the runner before has left in the file."""
    alone.put("r1", b"1")
    alone.close()
    successor = SharedMetadata(of_one)
    found = successor.get("r1")
    successor.put("r1", b"2")
    again = successor.get("r1")
    successor.delete("r1")

    assert (found, again, successor.get("r1")) == (b"1", b"2", None)
    successor.close()


def test_moving_takes_long(alone: SharedMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, opening the file takes long. Nothing is lost because of that."""
    seconds = itertools.count(step=100)
    for number in range(3):
        alone.put(f"r{number}", b"%d" % number)
    with monkeypatch.context() as slow:
        slow.setattr("time.monotonic", lambda: float(next(seconds)))
        alone.share()

    assert [alone.get(f"r{number}") for number in range(3)] == [b"0", b"1", b"2"]


def test_the_order_of_what_is_moved(alone: SharedMetadata) -> None:
    """If the file is full later, what was written first is evicted first, also if it was moved."""
    for number in range(400):
        alone.put(f"{number:032}", bytes(1000))
    alone.share()
    for number in range(400, 600):
        alone.put(f"{number:032}", bytes(1000))
    kept = [number for number in range(600) if alone.get(f"{number:032}") is not None]

    assert kept == list(range(kept[0], 600))


async def wait_until_moved(predecessor: SharedMetadata, successor: SharedMetadata) -> None:
    """Let the successor wait, and then the predecessor move its metadata."""
    waiting = asyncio.create_task(successor.wait_for_predecessor())
    await asyncio.sleep(4 * shared_metadata.PAUSE_S)
    assert not waiting.done()
    predecessor.close()
    await waiting


def test_successor_waits(alone: SharedMetadata, settings: Settings, of_one: Settings) -> None:
    """No worker serves before an only worker has moved its metadata, be it of the same runner or of another one."""
    alone.put("r1", b"1")
    second = SharedMetadata(of_one)
    asyncio.run(wait_until_moved(alone, second))
    found = second.get("r1")
    second.put("r2", b"2")
    third = SharedMetadata(settings)
    asyncio.run(wait_until_moved(second, third))

    assert [found, third.get("r1"), third.get("r2")] == [b"1", b"1", b"2"]
    third.close()


def test_predecessor_does_not_respond(
    alone: SharedMetadata, of_one: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its successor serves after a while, and uses the file, because the predecessor may move its metadata later."""
    monkeypatch.setattr(shared_metadata, "PATIENCE_S", 0.01)
    alone.put("r1", b"1")
    successor = SharedMetadata(of_one)
    asyncio.run(successor.wait_for_predecessor())
    successor.put("r2", b"2")
    before = successor.get("r1")
    successor.close()
    alone.close()
    third = SharedMetadata(of_one)

    assert (before, third.get("r1"), third.get("r2")) == (None, b"1", b"2")
    assert "has not moved its metadata" in caplog.text
    third.close()


def test_nothing_to_wait_for(alone: SharedMetadata, settings: Settings, tmp_path: Path) -> None:
    """A worker does not wait for one that has no metadata, and creates no file."""
    alone.get("r1")
    asyncio.run(SharedMetadata(settings).wait_for_predecessor())

    assert list(tmp_path.iterdir()) == []


def test_child_process_of_the_predecessor(alone: SharedMetadata, of_one: Settings) -> None:
    """A child process that a plugin has forked does not keep the lock when its parent has moved the metadata."""
    alone.put("r1", b"1")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the test has ended
        os._exit(0)
    try:
        alone.close()
        successor = SharedMetadata(of_one)
        successor.put("r2", b"2")
        assert values(successor) == {"entries": 1, "bytes": 301, "evictions": 0}  # in its own memory
        successor.close()
    finally:
        os.close(reading)
        os.close(writing)
        os.waitpid(child, 0)


def test_the_lifetime_of_what_is_shared(of_one: Settings) -> None:
    """Metadata does not live longer because it was moved to the file."""
    brief = SharedMetadata(msgspec.structs.replace(of_one, metadata_expire_s=0.05))
    brief.put("r1", b"1")
    brief.share()
    while brief.get("r1") is not None:
        pass
    brief.close()


def test_one_worker_without_a_file(of_one: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that can't be used does not matter until the worker is replaced. Then the log has the number of requests that lose data."""
    (tmp_path / "file").write_text("")
    broken = SharedMetadata(msgspec.structs.replace(of_one, state_directory=str(tmp_path / "file")))
    broken.put("r1", b"1")
    found = broken.get("r1")
    broken.close()

    assert found == b"1"
    assert "the metadata of 1 requests is lost" in caplog.text


def test_time_limit(settings: Settings) -> None:
    """An entry expires."""
    brief = SharedMetadata(msgspec.structs.replace(settings, metadata_expire_s=0.001))
    brief.put("r1", b"1")
    while brief.get("r1") is not None:
        pass
    brief.close()


def test_flood_of_requests_without_a_response_phase(metadata: SharedMetadata, tmp_path: Path) -> None:
    """The file does not grow. The oldest entries are removed and counted, and the latest ones can be read."""
    for number in range(3000):
        metadata.put(f"{number:032}", bytes(1000))
    (file,) = tmp_path.rglob("metadata.mdb")
    metrics = values(metadata)

    assert file.stat().st_size == 1 << 20
    assert metadata.get(f"{0:032}") is None
    assert [metadata.get(f"{number:032}") for number in range(2900, 3000)] == [bytes(1000)] * 100
    assert metrics["entries"] + metrics["evictions"] == 3000
    assert metrics["bytes"] <= 1 << 19


def test_file_that_cannot_be_used(settings: Settings, tmp_path: Path) -> None:
    """Reading and writing raise an error. Removing does not, because the entry expires anyway."""
    (tmp_path / "file").write_text("")
    broken = SharedMetadata(msgspec.structs.replace(settings, state_directory=str(tmp_path / "file")))
    with pytest.raises(StoreError):
        broken.get("r1")
    with pytest.raises(StoreError):
        broken.put("r1", b"1")
    broken.delete("r1")
    broken.close()
