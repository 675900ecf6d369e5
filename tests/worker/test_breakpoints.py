# SPDX-License-Identifier: Apache-2.0
"""`breakpoint()` in a worker."""

import sys
from typing import Any

import pytest

from apisix.runner.worker import breakpoints
from apisix.runner.worker.breakpoints import NO_TERMINAL, install


@pytest.fixture(autouse=True)
def usual_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with Python's own hook, and restore the current one afterwards."""
    monkeypatch.setattr(sys, "breakpointhook", sys.__breakpointhook__)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)


def test_without_a_terminal() -> None:
    """Without a terminal, an error is raised immediately, and names the command to use."""
    install()

    with pytest.raises(RuntimeError, match="apisix-runner dev --debug"):
        sys.breakpointhook()
    assert "docs/guides/debug.md" in NO_TERMINAL


def test_another_hook_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONBREAKPOINT and the hook of a debugger are not replaced."""
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    install()
    assert sys.breakpointhook is sys.__breakpointhook__

    def hook(*_: Any) -> None: ...

    monkeypatch.delenv("PYTHONBREAKPOINT")
    monkeypatch.setattr(sys, "breakpointhook", hook)
    install()
    assert sys.breakpointhook is hook


def test_debugging_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dev --debug` sets an environment variable."""
    assert not breakpoints.is_debugging()
    monkeypatch.setenv(breakpoints.DEBUG_VARIABLE, "1")
    assert breakpoints.is_debugging()
