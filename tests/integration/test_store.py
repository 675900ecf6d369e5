# SPDX-License-Identifier: Apache-2.0
"""The shared store in real workers: these or the supervisor are killed, and its file is damaged or can't be used."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp
from tests.peer import HungUp
from tests.soak.stage import Stage, stage
from tests.soak.waiting import wait_until

pytestmark = pytest.mark.process


def environ(directory: Path) -> dict[str, str]:
    """Return the settings of a store in this directory."""
    return {"APISIX_RUNNER_STATE_DIRECTORY": str(directory), "APISIX_RUNNER_STATE_SIZE": "2MiB"}


def count(ours: Stage, plugin: str = "counts") -> Any:
    """Call the plugin over a new connection. Return what it has counted, the reply if it is an error, or None if the worker has ended."""
    try:
        with ours.runner.peer() as peer:
            reply = peer.request(peer.prepare((plugin, "{}")))
    except (HungUp, ConnectionError):
        return None
    return reply if isinstance(reply, ErrResp) else dict(reply.action.headers)["x-count"]


def file_of(directory: Path) -> Path:
    """Return the path of the store's file."""
    (found,) = directory.glob("*/state.mdb")
    return found


def test_workers_that_are_killed(tmp_path: Path) -> None:
    """Entries survive the death of all workers."""
    with stage(("--workers", "2"), environ(tmp_path)) as ours:
        counts = [count(ours) for _ in range(4)]
        for pid in ours.workers():
            os.kill(pid, signal.SIGKILL)
        counts += [count(ours) for _ in range(4)]

    assert counts == [str(number) for number in range(1, 9)]


def test_supervisor_that_is_killed(tmp_path: Path) -> None:
    """The next runner on the same socket continues with the entries. There is no lock, and no file, that it has to remove."""
    with stage(("--workers", "2"), environ(tmp_path)) as ours:
        counts = [count(ours), count(ours)]
        ours.runner.process.kill()
        ours.runner.process.wait()
        ours.start()
        counts += [count(ours), count(ours)]
        files = sorted(file.name for file in file_of(tmp_path).parent.iterdir())

    assert (counts, files) == (["1", "2", "3", "4"], ["state.mdb", "state.mdb-lock"])


def test_file_that_is_truncated_while_it_is_open(tmp_path: Path) -> None:
    """A worker that uses pages that no longer exist is killed by the kernel. Its successor replaces the file."""
    with stage((), environ(tmp_path)) as ours:
        first = count(ours)
        os.truncate(file_of(tmp_path), 8192)  # the two pages that LMDB looks at first
        lost = count(ours)
        ours.runner.wait_for_log(f"was killed by signal {int(signal.SIGBUS)}")
        again = [count(ours), count(ours)]
        ours.runner.wait_for_log("is damaged (it has 8192 bytes, so it was truncated), so it is replaced by an empty one")

    assert (first, lost, again) == ("1", None, ["1", "2"])


def test_file_that_is_removed_while_it_is_open(tmp_path: Path) -> None:
    """Workers look at the file each second. After that, all of them use the same new file."""
    with stage(("--workers", "2"), environ(tmp_path)) as ours:
        before = [count(ours) for _ in range(4)]
        shutil.rmtree(file_of(tmp_path).parent)
        wait_until(lambda: count(ours) == "1", 20, "a worker counts in a new file")
        ours.runner.wait_for_log("was replaced or removed, so this worker has opened it again")
        path = str(file_of(tmp_path))
        end_s = time.monotonic() + 20
        while not all(path in map(os.path.realpath, Path(f"/proc/{pid}/fd").iterdir()) for pid in ours.workers()):
            assert time.monotonic() < end_s, "each worker has opened the new file, or has never used the store"
            count(ours)
        base = int(count(ours))
        counts = [count(ours) for _ in range(4)]

    assert (before, counts) == (["1", "2", "3", "4"], [str(base + number) for number in range(1, 5)])


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with 1 MiB, in which a store of 2 MiB has no place."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    directory = tmp_path / "full"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "state", str(directory)], check=True)  # noqa: S607
    yield directory
    subprocess.run(["umount", str(directory)], check=True)  # noqa: S607


def check_refusals(directory: Path, message: str) -> None:
    """Check that calls are refused unless the plugin has a fallback, that the log has the reason, and that no worker has ended."""
    with stage((), environ(directory)) as ours:
        first = count(ours)
        workers = ours.workers()
        replies = [first, count(ours, "tolerates"), count(ours)]
        ours.runner.wait_for_log("StoreError", message)
        after = ours.workers()

    refused = ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert (replies, after) == ([refused, "unknown", refused], workers)


def test_memory_that_is_full(full: Path) -> None:
    """If there is no memory for the file, calls are refused, and no worker ends."""
    check_refusals(full, "No space left on device")


def test_directory_that_can_not_be_used(tmp_path: Path) -> None:
    """If the directory is missing, calls are refused, and the log names the setting."""
    check_refusals(tmp_path / "missing", "Set state.directory to a directory in memory")
