# SPDX-License-Identifier: Apache-2.0
"""Parametrize a test over a file of records."""

import sys
from pathlib import Path

import pytest

from apisix.testing.replaying.reading import RecordFile


def records(path: str | Path, *, route: str | None = None, plugin: str | None = None) -> pytest.MarkDecorator:
    """
    Run a test once for each call of a file of records. The test gets the call as its argument `record`.

    Args:
        path: the file. A relative path begins at the directory of the test's file.
        route: only calls with this route key, or with one that begins with it, as in "route#1".
        plugin: only calls with this plugin.
    Raises:
        OSError: the file can't be read.
        UnreadableRecord: a line is not a record.
        ValueError: there is no such call in the file, so the test would be skipped.
    """
    file = Path(sys._getframe(1).f_globals.get("__file__", ".")).parent / path
    calls = list(RecordFile(file, route=route, plugins=() if plugin is None else (plugin,)))
    if not calls:
        wanted = " and ".join(f"{name} {value}" for name, value in (("route", route), ("plugin", plugin)) if value is not None)
        raise ValueError(f"{file} contains no call{f' with the {wanted}' if wanted else ''}")
    return pytest.mark.parametrize("record", [pytest.param(call, id=f"{call.request_line}-{call.call.id[:8]}") for call in calls])
