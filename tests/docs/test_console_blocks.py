# SPDX-License-Identifier: Apache-2.0
"""Commands and their output in the documentation: commands exist with these options, and output is marked as captured."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest

from apisix.cli.commands import commands
from tests.docs.pages import CHECKOUT, DOCS, pages

PAGES = [page for page in pages() if page.name != "CHANGELOG.md"]
MARK = "Output on this page was captured"
MAKE = re.compile(r"(?:^(?:    |)(?:\$ )?|`)make ([a-z][a-z0-9.-]*)", re.MULTILINE)
MODULE = re.compile(r"(?:^(?:    |)(?:\$ )?|`)[\w./]*python3? -m ([a-z][\w.]*)", re.MULTILINE)
NOT_OURS = {"build", "http.server", "pip", "pytest", "venv"}
"""Modules that Python or other packages provide."""
PROGRAM = re.compile(r"^(?:    |)(?:\$ )?(apisix-runner [^|&>#]+)")


def ids(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def commands_of(page: Path) -> list[str]:
    """Return the commands of the runner that a page shows in blocks. Comments and pipes are left out."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^```(?:sh|console)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)).splitlines()
    indented = [line for line in text.splitlines() if line.startswith("    ")]
    return [match[1].strip() for line in fenced + indented if (match := PROGRAM.match(line))]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_exist(page: Path) -> None:
    """The commands of the runner have these names and options."""
    for command in commands_of(page):
        name, *arguments = shlex.split(re.split(r"\s{2,}", command)[0])[1:]
        if name.startswith("-"):
            continue
        found = commands.get_command(click.Context(commands), name)
        assert found is not None, f"{page}: {command}"
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        assert [each for each in arguments if each.startswith("--") and each.partition("=")[0] not in known] == [], f"{page}: {command}"


def test_some_commands_are_found() -> None:
    """The test above checks something."""
    assert sum(len(commands_of(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_targets_of_make_exist(page: Path) -> None:
    """The targets that a page names are in the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z0-9.%-]*):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {re.sub(r"^(test-3\.).*", r"\1%", target) for target in MAKE.findall(page.read_text("utf-8"))}

    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_modules_exist(page: Path) -> None:
    """The modules that a page starts with `python -m` exist."""
    named = set(MODULE.findall(page.read_text("utf-8"))) - NOT_OURS

    assert {
        name
        for name in named
        if not (CHECKOUT / name.replace(".", "/")).with_suffix(".py").exists()
        and not (CHECKOUT / name.replace(".", "/") / "__main__.py").exists()
    } == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=ids)
def test_output_is_marked(page: Path) -> None:
    """If a block shows a command with its output, the page says that it was captured."""
    text = page.read_text(encoding="utf-8")
    shows_output = any(
        re.match(r"(?:    )?\$ ", line) and re.match(r"\S|    [^$\s]", after) and not after.startswith("```")
        for line, after in pairwise(text.splitlines())
    )

    assert MARK in text or not shows_output
