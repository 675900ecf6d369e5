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
