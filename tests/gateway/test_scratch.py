# SPDX-License-Identifier: Apache-2.0
"""The temporary directory of `dev`: it is created, kept while `dev` runs, and always removed afterwards."""

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from apisix.gateway.scratch import PREFIX, scratch_directory, sweep


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty directory as the system's directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leave(directory: Path) -> None:
    """Create a directory as if a `dev` that was killed some time ago had left it."""
    directory.mkdir()
    (directory / "apisix-1.sock.conf").write_text("x")
    (directory / "lock").touch()
    os.utime(directory, (0, 0))


def test_it_goes_at_the_end(temp: Path) -> None:
    """The directory is accessible to its user only, and is removed with its content, also after an error."""
    with suppress(ZeroDivisionError), scratch_directory() as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "store").write_text("x")
        raise ZeroDivisionError

    assert os.listdir(temp) == []


def test_what_a_killed_one_left_goes(temp: Path) -> None:
    """A directory that is not in use is removed at the next start. One in use, a new one, and everything else stay."""
    leave(temp / f"{PREFIX}dead")
    (temp / f"{PREFIX}unlocked").mkdir()
    os.utime(temp / f"{PREFIX}unlocked", (0, 0))
    (temp / f"{PREFIX}young").mkdir()
    (temp / "elsewhere").mkdir()
    (temp / f"{PREFIX}file").write_text("x")
    (temp / f"{PREFIX}link").symlink_to(temp / "elsewhere")
    with scratch_directory() as living:
        os.utime(living, (0, 0))
        with scratch_directory() as other:
            kept = {living.name, other.name, "elsewhere", *(f"{PREFIX}{name}" for name in ("file", "link", "young"))}
            assert set(os.listdir(temp)) == kept


def test_who_uses_it_may_lock_it(temp: Path) -> None:
    """The directory itself is not locked, because the runner locks it when it binds and unlinks its socket, and would wait."""
    with scratch_directory() as directory:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


def test_what_another_user_left_stays(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories of other users are not changed, even by root."""
    leave(temp / f"{PREFIX}theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sweep()

    assert os.listdir(temp) == [f"{PREFIX}theirs"]
