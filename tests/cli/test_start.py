# SPDX-License-Identifier: Apache-2.0
"""`start` refuses a Python that it does not support."""

import sys

import pytest

from apisix.cli.start import start


def test_without_the_gil_start_refuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A free-threaded Python is refused before anything is bound, and the message contains what to do."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert start({}) == 2
    assert capsys.readouterr().err == "apisix-runner: free-threaded Python is supported only with the GIL; set PYTHON_GIL=1\n"
