# SPDX-License-Identifier: Apache-2.0
"""The reader without PyYAML returns the same as PyYAML, or leaves the file to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisix.runner.errors import SettingsError
from apisix.runner.settings.file import read_file
from apisix.runner.settings.plain_yaml import read_plain
from apisix.runner.settings.table import SETTINGS

KEYS = [row.key for row in SETTINGS]
SHIPPED = Path(__file__).resolve().parent.parent.parent / "apisix" / "config.yaml"

LINES = st.lists(
    st.one_of(
        st.sampled_from(["logging:", "workers:", "limits:", "socket:", "nonsense:", "", "# a comment", "  # an indented one", "---"]),
        st.builds(
            "{}{}: {}{}".format,
            st.sampled_from(["  ", "    ", "", " "]),
            st.sampled_from(["level", "count", "timeout", "file", "mode", "directories", "nonsense"]),
            st.one_of(
                st.sampled_from(["info", "0660", "1_000", "null", "~", "NULL", "[]", "[ ]", "a: b", "a:", "'x'", "*x", "&x y", "!!str x"]),
                st.sampled_from(["$env.NAME", "unix:/tmp/x", "-", "- a", "a #b", "a#b", "%x", "@x", "x ", "1:30", "0x1f", "=", "<<", "|"]),
                st.text(max_size=6),
            ),
            st.sampled_from(["", " # why", " "]),
        ),
    ),
    max_size=6,
)


@given(LINES)
@settings(max_examples=400, deadline=None)
def test_both_readers_return_the_same(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """If the plain reader can read a file, PyYAML returns the same values and lines."""
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))

    plain = read_plain(file, KEYS)

    if plain is not None:
        assert plain == read_file(file, KEYS)


@pytest.mark.parametrize(
    "text",
    [
        "logging:\n  level: null\n",
        "logging:\n  level: a: b\n",
        "logging:\n\tlevel: info\n",
        "logging: {level: info}\n",
        "logging:\n  level: 'info'\n",
        "logging:\n  level: info # why\n",
        "logging:\n  level: info\nlogging:\n  format: text\n",
        "plugins:\n  directories:\n    - a\n",
        "logging:\n  level: info\r\n",
        "loging:\n  level: info\n",
    ],
)
def test_other_forms_are_left_to_yaml(tmp_path: Path, text: str) -> None:
    """Quotes, lists, comments after values, and mistakes are left to PyYAML."""
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode())

    assert read_plain(file, KEYS) is None


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    """The error is that of the reader with PyYAML."""
    assert read_plain(tmp_path / "none.yaml", KEYS) is None
    with pytest.raises(SettingsError):
        read_file(tmp_path / "none.yaml", KEYS)


def test_shipped_file_is_plain() -> None:
    """The shipped file is read without PyYAML, with the same result."""
    assert read_plain(SHIPPED, KEYS) == read_file(SHIPPED, KEYS)


@pytest.mark.process
@pytest.mark.skipif("COVERAGE_PROCESS_CONFIG" in os.environ, reason="coverage.py imports modules itself")
def test_imports_before_the_socket_is_bound() -> None:
    """With the shipped file, neither PyYAML nor asyncio, uvloop or structlog is imported before the supervisor binds the socket."""
    code = (
        "import os, sys, apisix.cli.start as start, apisix.runner.supervisor.supervisor\n"
        "start.gather({}, {})\n"
        "print(*{'yaml', 'asyncio', 'uvloop', 'structlog', 'click', 'sqlite3', 'multidict', 'greenlet'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
