# SPDX-License-Identifier: Apache-2.0
"""The docstring of each package names its modules, so that a reader finds a module without opening others."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import CHECKOUT, text_of
from tests.test_layers import LEFT_TO_RIGHT

PACKAGE = CHECKOUT / "apisix"
# The names of the top-level package are the author's, and the modules of `plugins` are the sample plugins.
NOT_NAMED = {PACKAGE, PACKAGE / "plugins"}
PACKAGES = [file.parent for file in sorted(PACKAGE.rglob("__init__.py")) if file.parent not in NOT_NAMED]


def named_in(package: Path) -> set[str]:
    """Return the names that the docstring of a package has in backticks, without directories and suffixes."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    paths = [name.removesuffix("/").removesuffix(".py").rpartition("/")[2] for name in re.findall(r"`([\w./]+)`", docstring)]
    return {name.partition(".")[0] for name in paths}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(CHECKOUT)))
def test_modules_of_a_package_are_in_its_docstring(package: Path) -> None:
    """If this fails, add the new module to the docstring in `__init__.py`, with what it does."""
    modules = {file.stem for file in package.glob("*.py")} | {file.parent.name for file in package.glob("*/__init__.py")}

    assert modules - {"__init__"} - named_in(package) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(CHECKOUT)))
def test_a_docstring_of_a_package_names_files_that_exist(package: Path) -> None:
    """If this fails, a module was moved or renamed."""
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    files = [name for name in re.findall(r"`([\w/]+\.py)`", docstring) if name != "setup.py"]

    assert [name for name in files if not any((root / name).exists() for root in (package, *package.parents, PACKAGE / "runner"))] == []


def test_the_architecture_has_all_packages_of_the_runner() -> None:
    """The table of the architecture has a row for each package and module of the runner, and the line below it has their order."""
    page = text_of("internals", "architecture.md")
    runner = PACKAGE / "runner"
    names = [f"{file.parent.name}/" for file in runner.glob("*/__init__.py")] + [file.name for file in runner.glob("[!_]*.py")]

    assert sorted(re.findall(r"^\| `(\w+(?:/|\.py))` \|", page, re.MULTILINE)) == sorted(names)
    assert f"\n    {' <- '.join(('errors', *LEFT_TO_RIGHT, 'cli'))}\n" in page
