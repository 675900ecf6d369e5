# SPDX-License-Identifier: Apache-2.0
"""The metadata that all workers share. tests/integration/test_metadata.py uses it in real workers."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from apisix.runner.errors import StoreError
from apisix.runner.settings.table import Settings
from apisix.runner.worker.shared_metadata import SharedMetadata


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a runner with a directory of its own."""
    return Settings(socket_file=str(tmp_path / "runner.sock"), state_directory=str(tmp_path), metadata_size=1 << 20)


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
def alone(settings: Settings) -> Iterator[SharedMetadata]:
    """The metadata of the first worker of a runner with one worker."""
    opened = SharedMetadata(settings, is_alone=True)
    yield opened
    opened.close()


def test_one_worker(alone: SharedMetadata, settings: Settings, tmp_path: Path) -> None:
    """It keeps metadata in its own memory, without a file, until it shares it with the worker that replaces it."""
    alone.put("r1", b"1")
    alone.put("r2", b"22")
    alone.delete("r1")
    assert ([alone.get(name) for name in ("r1", "r2")], list(tmp_path.iterdir())) == ([None, b"22"], [])
    assert values(alone) == {"entries": 1, "bytes": 302, "evictions": 0}

    alone.share()
    alone.put("r3", b"3")
    assert ([alone.get(name) for name in ("r2", "r3")], values(alone)["entries"]) == ([b"22", b"3"], 2)
    alone.close()
    other = SharedMetadata(settings)
    assert [other.get(name) for name in ("r1", "r2", "r3")] == [None, b"22", b"3"]
    other.close()


def test_one_worker_of_the_next_runner(alone: SharedMetadata, settings: Settings) -> None:
    """It finds what the runner before has left in the file."""
    alone.put("r1", b"1")
    alone.close()
    successor = SharedMetadata(settings, is_alone=True)
    found = successor.get("r1")
    successor.put("r1", b"2")
    again = successor.get("r1")
    successor.delete("r1")

    assert (found, again, successor.get("r1")) == (b"1", b"2", None)
    successor.close()


def test_the_lifetime_of_what_is_shared(settings: Settings) -> None:
    """Metadata does not live longer because it was moved to the file."""
    brief = SharedMetadata(msgspec.structs.replace(settings, metadata_expire_s=0.05), is_alone=True)
    brief.put("r1", b"1")
    brief.share()
    while brief.get("r1") is not None:
        pass
    brief.close()


def test_one_worker_without_a_file(settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that can't be used does not matter until the worker is replaced. Then the log has the number of requests that lose data."""
    (tmp_path / "file").write_text("")
    broken = SharedMetadata(msgspec.structs.replace(settings, state_directory=str(tmp_path / "file")), is_alone=True)
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
