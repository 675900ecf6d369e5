# SPDX-License-Identifier: Apache-2.0
"""Files of a plugin directory can import their sibling modules, and directories do not affect each other."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from apisix.runner.plugin.loading.sibling_modules import open_package, package_of


@pytest.fixture(autouse=True)
def unchanged_modules() -> Iterator[None]:
    """Remove from `sys.modules` what a test imports."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(directory: Path, **texts: str) -> Path:
    """Write files. A double underscore in a name separates folder and file, as in `pkg__mod`."""
    for name, text in texts.items():
        file = directory / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


def load(directory: Path, stem: str) -> ModuleType:
    """Import a file of a directory."""
    return importlib.import_module(f"{open_package(directory)}.{stem}")


IMPORTS = [
    "import mylib; value = mylib.VALUE",
    "import mylib as other; value = other.VALUE",
    "from mylib import VALUE as value",
    "from mylib import *; value = VALUE",
    "from . import mylib; value = mylib.VALUE",
    "from .mylib import VALUE as value",
    "import os.path, mylib; value = os.path and mylib.VALUE",
    "import folder.inner; value = folder.inner.VALUE",
    "import folder.inner as deep; value = deep.VALUE",
    "import folder.inner as deep, mylib; value = deep.VALUE and mylib.VALUE",
    "from folder.inner import VALUE as value",
    "from folder import inner; value = inner.VALUE",
    "from folder.upward import value",
    "from _private import VALUE as value",
    "def get():\n    import mylib\n    return mylib.VALUE\nvalue = get()",
]


@pytest.mark.parametrize("statement", IMPORTS)
def test_a_sibling_module_is_imported(tmp_path: Path, statement: str) -> None:
    """All forms of import find the sibling module in their own directory, also if other modules have been imported."""
    for value in ("one", "two"):
        write(
            tmp_path / value,
            plugin=statement,
            mylib=f"VALUE = {value!r}",
            _private=f"VALUE = {value!r}",
            folder__init="",
            folder__inner=f"VALUE = {value!r}",
            folder__upward="import mylib\nfrom folder.inner import VALUE\nvalue = mylib.VALUE and VALUE",
        )
        (tmp_path / value / "folder" / "init.py").rename(tmp_path / value / "folder" / "__init__.py")
    first, second = load(tmp_path / "one", "plugin"), load(tmp_path / "two", "plugin")
    assert (first.value, second.value) == ("one", "two")
    assert "mylib" not in sys.modules


def test_a_file_with_the_name_of_a_library_can_import_the_library(tmp_path: Path) -> None:
    """In `redis.py`, `import redis` imports the library. In all files, the name of a standard module imports that module."""
    write(tmp_path, msgspec="import msgspec\nvalue = msgspec.json", json="value = 1", plugin="import json\nvalue = json.dumps(1)")
    assert load(tmp_path, "msgspec").value is importlib.import_module("msgspec").json
    assert load(tmp_path, "plugin").value == "1"


def test_files_are_read_again(tmp_path: Path) -> None:
    """A file that is saved twice within a second, with the same size, is read again. So are its sibling modules."""
    for value in (1, 2):
        write(tmp_path, plugin="from mylib import value", mylib=f"value = {value}")
        assert load(tmp_path, "plugin").value == value
    assert not (tmp_path / "__pycache__").exists()


def test_line_numbers_do_not_change(tmp_path: Path) -> None:
    """Rewriting imports does not move lines, so tracebacks have the lines of the file."""
    write(tmp_path, plugin="import mylib, os\n\n\ndef fail():\n    raise KeyError\n", mylib="")
    module = load(tmp_path, "plugin")
    assert module.fail.__code__.co_firstlineno == 4
    assert module.fail.__code__.co_filename == str(tmp_path / "plugin.py")


def test_the_name_of_a_package(tmp_path: Path) -> None:
    """It contains the name of the directory, is always the same, and differs between directories of the same name."""
    first, second = tmp_path / "a" / "my plugins", tmp_path / "b" / "my plugins"
    assert package_of(first).startswith("apisix_plugins_my_plugins_")
    assert package_of(first) == package_of(tmp_path / "b" / ".." / "a" / "my plugins")
    assert package_of(first) != package_of(second)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("import click", True),
        ("\nfrom click.core import x", True),
        ("from .click import VALUE", False),
        ("import mylib", False),
        ("import json", False),
    ],
)
def test_a_sibling_module_with_the_name_of_a_library(tmp_path: Path, text: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """If a file imports a sibling module with the name of an installed library, a warning has its line."""
    write(tmp_path, click="VALUE = 1", mylib="VALUE = 1", json="VALUE = 1", importer=f"try:\n    pass\nfinally: pass\n{text}")
    with suppress(ImportError):
        load(tmp_path, "importer")

    said = [record.getMessage() for record in caplog.records]
    line = 4 + text.count("\n")
    reason = (
        "this imports click from the file of that name in the plugin directory, not the library. Rename the file if you mean the library"
    )
    assert said == ([f"{tmp_path}/importer.py:{line}: {reason}"] if warned else [])
