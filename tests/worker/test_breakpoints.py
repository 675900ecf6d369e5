# SPDX-License-Identifier: Apache-2.0
"""`breakpoint()` in a worker."""

import sys
from typing import Any

import pytest

from apisix.runner.worker import breakpoints
from apisix.runner.worker.breakpoints import NO_TERMINAL, install


@pytest.fixture(autouse=True)
def usual_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with Python's own hook, which is put back at the end."""
    monkeypatch.setattr(sys, "breakpointhook", sys.__breakpointhook__)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)


def test_without_a_terminal() -> None:
    """An error at once names the command that helps."""
    install()

    with pytest.raises(RuntimeError, match="apisix-runner dev --debug"):
        sys.breakpointhook()
    assert "docs/guides/debug.md" in NO_TERMINAL


def test_what_is_chosen_elsewhere_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONBREAKPOINT, and the hook of a debugger, are left alone."""
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    install()
    assert sys.breakpointhook is sys.__breakpointhook__

    def hook(*_: Any) -> None: ...

    monkeypatch.delenv("PYTHONBREAKPOINT")
    monkeypatch.setattr(sys, "breakpointhook", hook)
    install()
    assert sys.breakpointhook is hook


def test_nothing_is_marked_while_somebody_debugs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dev --debug` says so by a variable."""
    assert not breakpoints.is_debugging()
    monkeypatch.setenv(breakpoints.DEBUG_VARIABLE, "1")
    assert breakpoints.is_debugging()
