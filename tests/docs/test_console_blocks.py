# SPDX-License-Identifier: Apache-2.0
"""Commands and their output in docs/: commands exist with these options, and output is marked as captured."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest

from apisix.cli.commands import commands
from tests.docs.pages import CHECKOUT, DOCS, pages

PAGES = [page for page in pages() if page.is_relative_to(DOCS)]
MARK = "Output on this page was captured"
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
def test_output_is_marked(page: Path) -> None:
    """If a block shows a command with its output, the page says that it was captured."""
    text = page.read_text(encoding="utf-8")
    shows_output = any(
        re.match(r"(?:    )?\$ ", line) and re.match(r"\S|    [^$\s]", after) and not after.startswith("```")
        for line, after in pairwise(text.splitlines())
    )

    assert MARK in text or not shows_output
