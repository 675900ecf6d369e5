# SPDX-License-Identifier: Apache-2.0
"""What `doctor` reports about Python and its libraries."""

import sys

import pytest

from apisix.cli.diagnosis import python
from apisix.cli.diagnosis.python import examine_libraries, examine_python
from apisix.runner.settings.table import Settings


def test_this_python() -> None:
    """The interpreter of the tests is sufficient."""
    this, libraries = examine_python(Settings())

    assert (this.level, libraries.level) == ("ok", "ok")
    assert sys.executable in this.text
    assert "uvloop" in libraries.text
    assert "prometheus" not in libraries.text


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python version that is too old is a problem."""
    monkeypatch.setattr(python, "OLDEST", (99, 0))
    this, *_ = examine_python(Settings())

    assert (this.level, this.advice) == ("problem", "The runner needs Python 99.0 or later")


def test_wrong_libraries() -> None:
    """Missing and old libraries are reported, with what to install. Libraries of extras that are not used are not examined."""
    results = list(examine_libraries(["nowhere-to-be-found>=1", "click>=99.1", "msgspec", 'absent>=2; extra == "dev"'], {"metrics"}))

    assert [result.level for result in results] == ["problem", "problem", "ok"]
    assert results[0].text == "nowhere-to-be-found is not installed"
    assert results[1].text.endswith("is older than 99.1")
    assert results[0].advice == "Install what the runner needs: pip install 'apisix-python-plugin-runner[metrics]'"


def test_libraries_of_an_extra_that_is_used() -> None:
    """If the metrics are enabled, their library is required."""
    *_, libraries = examine_python(Settings(metrics_address="127.0.0.1:9092"))

    assert "prometheus-client" in libraries.text
