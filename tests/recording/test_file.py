# SPDX-License-Identifier: Apache-2.0
"""A file of records contains whole lines and the configurations of its calls, whichever process writes it."""

import errno
import os
import stat
from pathlib import Path

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.recording.file import Entry, RotatingFile, check_file, open_private, path_of
from apisix.runner.records.format import ConfigurationRecord, encode
from apisix.runner.settings.table import Settings

FIRST = ConfigurationRecord(digest="1" * 32, plugins=[])
SECOND = ConfigurationRecord(digest="2" * 32, plugins=[])


def lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_a_configuration_is_written_once_before_its_calls(path: Path) -> None:
    file = RotatingFile(str(path), 10_000, 3)
    file.write([Entry(FIRST, b"a"), Entry(SECOND, b"b"), Entry(FIRST, b"c")])
    file.write([Entry(SECOND, b"d")])

    assert lines(path) == [encode(FIRST), b"a", encode(SECOND), b"b", b"c", b"d"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_process_writes_its_configurations(path: Path) -> None:
    for name in (b"a", b"b"):
        RotatingFile(str(path), 10_000, 3).write([Entry(FIRST, name)])

    assert lines(path) == [encode(FIRST), b"a", encode(FIRST), b"b"]


def test_a_file_that_is_too_large_is_renamed_and_the_oldest_is_removed(path: Path) -> None:
    size = len(encode(FIRST)) + 1 + 2
    file = RotatingFile(str(path), size, 3)
    file.write([Entry(FIRST, name) for name in (b"a", b"b", b"c", b"d")])

    assert sorted(os.listdir(path.parent)) == ["calls.jsonl", "calls.jsonl.1", "calls.jsonl.2"]
    assert [lines(path.with_name(f"calls.jsonl{suffix}"))[-1] for suffix in (".2", ".1", "")] == [b"b", b"c", b"d"]
    assert lines(path) == [encode(FIRST), b"d"]


def test_if_one_file_is_kept_it_is_replaced(path: Path) -> None:
    file = RotatingFile(str(path), 1, 1)
    file.write([Entry(FIRST, b"a"), Entry(FIRST, b"b")])

    assert os.listdir(path.parent) == ["calls.jsonl"]
    assert lines(path) == [encode(FIRST), b"b"]


def test_another_process_notices_that_the_file_was_renamed(path: Path) -> None:
    first, second = RotatingFile(str(path), 100, 3), RotatingFile(str(path), 10_000, 3)
    second.write([Entry(FIRST, b"x")])
    first.write([Entry(FIRST, b"y" * 100)])
    second.write([Entry(FIRST, b"z")])

    assert lines(path) == [encode(FIRST), b"y" * 100, encode(FIRST), b"z"]
    assert lines(path.with_name("calls.jsonl.1")) == [encode(FIRST), b"x"]


def test_a_file_that_was_removed_is_created_again(path: Path) -> None:
    file = RotatingFile(str(path), 10_000, 3)
    file.write([Entry(FIRST, b"a")])
    path.unlink()
    file.write([Entry(FIRST, b"b")])

    assert lines(path) == [encode(FIRST), b"b"]


def test_an_incomplete_line_of_a_killed_process_is_ended(path: Path) -> None:
    path.write_bytes(b'{"incomp')
    RotatingFile(str(path), 10_000, 3).write([Entry(FIRST, b"a")])

    assert lines(path) == [b'{"incomp', encode(FIRST), b"a"]


def test_what_was_written_in_part_is_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatingFile(str(path), 10_000, 3)
    file.write([Entry(FIRST, b"a")])
    write = os.write
    written: list[int] = []

    def full(descriptor: int, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, "full")
        written.append(write(descriptor, data[:1]))
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="full"):
            file.write([Entry(SECOND, b"b")])
    file.write([Entry(SECOND, b"c")])

    assert lines(path) == [encode(FIRST), b"a", encode(SECOND), b"c"]


def test_the_mode_of_an_existing_file_is_changed(path: Path) -> None:
    path.touch(0o644)
    os.close(open_private(str(path)))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "directory"])
def test_only_a_regular_file_is_opened(path: Path, kind: str) -> None:
    if kind == "link":
        path.symlink_to(path.parent / "other")
    elif kind == "hard link":
        (path.parent.parent / "other").touch()
        path.hardlink_to(path.parent.parent / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()

    with pytest.raises(SettingsError, match=r"record\.file is .*, which can't be opened: "):
        check_file(Settings(record_file=str(path)))
    assert [entry.name for entry in path.parent.iterdir()] == ["calls.jsonl"]


def test_without_the_setting_the_file_is_next_to_the_socket() -> None:
    assert path_of(Settings(socket_file="/run/a/runner.sock")) == "/run/a/runner.sock.records.jsonl"
