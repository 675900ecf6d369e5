# SPDX-License-Identifier: Apache-2.0
"""Which changes of files are a reason to reload."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from apisix.runner.supervisor.file_watch import FileWatch


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of plugins."""
    (tmp_path / "package").mkdir()
    (tmp_path / "a.py").write_text("a")
    (tmp_path / "package" / "b.py").write_text("b")
    return tmp_path


CHANGES: list[tuple[Callable[[Path], object], list[str]]] = [
    (lambda directory: None, []),
    (lambda directory: (directory / "a.py").write_text("longer"), ["a.py"]),
    (lambda directory: os.utime(directory / "package" / "b.py", (1, 1)), ["package/b.py"]),
    (lambda directory: (directory / "package" / "new.py").write_text("x"), ["package/new.py"]),
    (lambda directory: (directory / "a.py").unlink(), ["a.py"]),
    (lambda directory: (directory / "a.py").rename(directory / "c.py"), ["a.py", "c.py"]),
    (lambda directory: (directory / "notes.txt").write_text("x"), []),
    (lambda directory: (directory / ".a.py.swp").write_text("x"), []),
    (lambda directory: (directory / ".#a.py").symlink_to("nowhere"), []),
    (lambda directory: (directory / "loop").symlink_to(directory), []),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_changes(directory: Path, change: Callable[[Path], object], expected: list[str]) -> None:
    """Python files that are changed, touched, added, removed or renamed are reported once. Other files are not reported."""
    watch = FileWatch([str(directory)])
    change(directory)

    assert watch.changed() == [str(directory / name) for name in expected]
    assert watch.changed() == []


def test_a_replaced_file_of_the_same_size_and_time(directory: Path) -> None:
    """A file that was replaced by renaming is reported, even if its time and size are the same."""
    watch = FileWatch([str(directory)])
    os.utime(directory / "a.py", (1, 1))
    watch.changed()
    (directory / "a.py.new").write_text("z")
    os.utime(directory / "a.py.new", (1, 1))
    (directory / "a.py.new").rename(directory / "a.py")

    assert watch.changed() == [str(directory / "a.py")]


def test_single_files(directory: Path) -> None:
    """Modules that were loaded from elsewhere are watched after they were added."""
    module = directory / "module.py"
    watch = FileWatch([])
    watch.add_files([str(module), str(directory / "a.py")])
    assert watch.changed() == []
    module.write_text("x")

    assert watch.changed() == [str(module)]


def test_a_directory_that_does_not_exist_yet(tmp_path: Path) -> None:
    """Plugins are reported if their directory is created later."""
    watch = FileWatch([str(tmp_path / "later")])
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.py").write_text("a")

    assert watch.changed() == [str(tmp_path / "later" / "a.py")]
