# SPDX-License-Identifier: Apache-2.0
"""What is said of this Python and its libraries."""

import sys

import pytest

from apisix.cli.diagnosis import python
from apisix.cli.diagnosis.python import look_at_libraries, look_at_python
from apisix.runner.settings.table import Settings


def test_this_python() -> None:
    """The one that the tests run in has what it takes."""
    this, libraries = look_at_python(Settings())

    assert (this.level, libraries.level) == ("ok", "ok")
    assert sys.executable in this.text
    assert "uvloop" in libraries.text
    assert "prometheus" not in libraries.text


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too old is a problem."""
    monkeypatch.setattr(python, "OLDEST", (99, 0))
    this, *_ = look_at_python(Settings())

    assert (this.level, this.advice) == ("problem", "The runner needs Python 99.0 or later")


def test_libraries_that_are_wrong() -> None:
    """One that is missing and one that is too old are named, with what to install; those of other extras are nobody's business."""
    findings = list(look_at_libraries(["nowhere-to-be-found>=1", "click>=99.1", "msgspec", 'absent>=2; extra == "dev"'], {"metrics"}))

    assert [finding.level for finding in findings] == ["problem", "problem", "ok"]
    assert findings[0].text == "nowhere-to-be-found is not installed"
    assert findings[1].text.endswith("is older than 99.1")
    assert findings[0].advice == "Install what the runner needs: pip install 'apisix-python-plugin-runner[metrics]'"


def test_libraries_of_an_extra_that_is_used() -> None:
    """With the metrics on, their library has to be there."""
    *_, libraries = look_at_python(Settings(metrics_address="127.0.0.1:9092"))

    assert "prometheus-client" in libraries.text
