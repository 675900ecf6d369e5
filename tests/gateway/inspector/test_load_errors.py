# SPDX-License-Identifier: Apache-2.0
"""The inspector follows which plugins can't be loaded."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from apisix.gateway.inspector.load_errors import MAX_ERRORS, REGISTRY_LOGGER, RELOADING, LoadErrors
from apisix.gateway.inspector.server import Inspector
from apisix.gateway.runner.log import REPLACEMENTS_LOGGER
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.supervisor.worker_pool import pool

RELOAD = (REPLACEMENTS_LOGGER, "reloading: a.py changed")
READY = (REPLACEMENTS_LOGGER, "a.py changed: worker 2 in the place of worker 1")
ABORTED = (REPLACEMENTS_LOGGER, "a.py changed: the new workers can't serve, so the old ones continue: a.py:3: it can't be compiled")


def refused(problem: str) -> tuple[str, str]:
    """Return the logger and the message of a line about a plugin."""
    return REGISTRY_LOGGER, f"a plugin is refused: {problem}"


FIRST, SECOND = refused("/p/a.py:3: it can't be compiled: x. Correct the syntax"), refused("/p/b.py: it is missing. Create it")
FIRST_ERROR = {"file": "/p/a.py", "line": 3, "message": "it can't be compiled: x. Correct the syntax"}
SECOND_ERROR = {"file": "/p/b.py", "message": "it is missing. Create it"}


def followed(*lines: tuple[str, str]) -> tuple[list[Any], Any]:
    """Return the lists that an inspector sends when it gets these lines of the log, and the last one, as the API returns it."""
    inspector = Inspector()
    sent: list[Any] = []
    inspector.send = lambda event, data: sent.append(json.loads(inspector.redacted(data)))  # type: ignore[method-assign]
    inspector.configured = {"hunter22": "redacted-0123456789abcdef"}
    errors = LoadErrors(inspector)
    for logger, message in lines:
        errors.record({"logger": logger, "message": message})
    listed: Any = asyncio.run(errors._list({}, None))
    return sent, json.loads(bytes(listed))


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ((), []),
        ((FIRST,), [[FIRST_ERROR]]),
        ((FIRST, FIRST, SECOND), [[FIRST_ERROR], [FIRST_ERROR, SECOND_ERROR]]),
        ((FIRST, RELOAD), [[FIRST_ERROR]]),
        ((FIRST, RELOAD, READY), [[FIRST_ERROR], []]),
        ((FIRST, READY), [[FIRST_ERROR]]),
        ((RELOAD, READY), []),
        ((RELOAD, FIRST, ABORTED), [[FIRST_ERROR]]),
        ((FIRST, RELOAD, SECOND, READY), [[FIRST_ERROR], [SECOND_ERROR]]),
        ((("other", FIRST[1]), (REGISTRY_LOGGER, "other")), []),
    ],
)
def test_what_is_shown(lines: tuple[tuple[str, str], ...], sent: list[Any]) -> None:
    """Errors stay until new workers are ready, also if a reload is aborted because of them."""
    assert followed(*lines) == (sent, sent[-1] if sent else [])


def test_secrets_are_replaced() -> None:
    assert (
        followed(refused("/p/a.py:1: it raises hunter22. Correct it"))[1][0]["message"] == "it raises redacted-0123456789abcdef. Correct it"
    )


def test_very_many_errors() -> None:
    assert len(followed(*(refused(f"/p/{number}.py:1: no. Correct it") for number in range(200)))[1]) == MAX_ERRORS


def test_the_lines_of_the_runner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The texts that are searched for are those that the runner logs."""
    (tmp_path / "broken.py").write_text("class Broken(:\n")
    with caplog.at_level(logging.ERROR):
        Registry.load([tmp_path], builtins=False, entry_points=False)
    lines = [(record.name, record.getMessage()) for record in caplog.records]

    (shown,) = followed(*lines)[1]
    assert (shown["file"], shown["line"]) == (str(tmp_path / "broken.py"), 1)
    assert shown["message"].startswith("it can't be compiled: ")
    assert pool.logger.name == REPLACEMENTS_LOGGER
    assert f'"{RELOADING}%s"' in Path(pool.__file__).read_text()
