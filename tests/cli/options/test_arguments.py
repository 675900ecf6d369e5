# SPDX-License-Identifier: Apache-2.0
"""Read arguments without click."""

import pytest

from apisix.cli.options.arguments import Flag, read_flags

KNOWN = {"--name": Flag("name"), "--all": Flag("all", is_switch=True), "--dir": Flag("dirs", is_list=True)}


def test_plain_flags() -> None:
    """A value follows a space or an equals sign, switches have no value, and lists can be repeated. Otherwise the last value is used."""
    arguments = ["--name", "a", "--dir=x", "--all", "--dir", "y", "--name=-b"]

    assert read_flags(arguments, KNOWN) == {"name": "-b", "dirs": ("x", "y"), "all": True}
    assert read_flags([], KNOWN) == {}


@pytest.mark.parametrize("arguments", [["--help"], ["file"], ["--name"], ["--name="], ["--name", "--all"], ["--all=yes"], ["--nam", "a"]])
def test_anything_else_is_left_to_click(arguments: list[str]) -> None:
    """Help, mistakes, abbreviations and other arguments are left to click."""
    assert read_flags(arguments, KNOWN) is None
