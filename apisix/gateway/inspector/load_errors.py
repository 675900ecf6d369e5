# SPDX-License-Identifier: Apache-2.0
"""The plugins that can't be loaded, as the runner's log reports them, until they are corrected."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from apisix.gateway.inspector.server import Inspector
from apisix.gateway.runner.log import REPLACEMENT, REPLACEMENTS_LOGGER, Record

REGISTRY_LOGGER: Final = "apisix.runner.plugin.loading.registry"
"""The logger of the lines about plugins that can't be loaded. Source: apisix/runner/plugin/loading/registry.py."""
REFUSED: Final = re.compile(r"a plugin is refused: (.+?)(?::(\d+))?: (.+)", re.DOTALL)
RELOADING: Final = "reloading: "
"""How the message begins that is logged when plugins are loaded again. Source: apisix/runner/supervisor/worker_pool/pool.py."""
MAX_ERRORS: Final = 100
"""How many errors are kept. Further ones are only in the log."""


class LoadError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a plugin can't be loaded. Attributes: line: the line that is wrong; None if there is none, as for a directory that is missing."""

    file: str
    message: str
    line: int | None = None


class LoadErrors:
    """
    Keeps the errors of the last time that plugins were loaded, and sends them to the pages when they change.

    When plugins are reloaded, the errors of before are shown until there is an error again, or the new workers are ready.
    """

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._errors: list[LoadError] = []
        self._are_old = False
        inspector.add_call("GET", "/api/load-errors", self._list)

    def record(self, record: Record) -> None:
        """Called with each line of the runner's log."""
        logger, message = record.get("logger"), str(record.get("message"))
        if logger == REGISTRY_LOGGER and (refused := REFUSED.fullmatch(message)):
            self._add(LoadError(refused[1], refused[3], None if refused[2] is None else int(refused[2])))
        elif logger == REPLACEMENTS_LOGGER and message.startswith(RELOADING):
            self._are_old = True
        elif logger == REPLACEMENTS_LOGGER and self._are_old and REPLACEMENT.fullmatch(message):
            self._are_old = False
            if self._errors:
                self._set([])

    def _add(self, error: LoadError) -> None:
        known = [] if self._are_old else self._errors
        self._are_old = False
        if error not in known and len(known) < MAX_ERRORS:  # each worker reports it
            self._set([*known, error])

    def _set(self, errors: list[LoadError]) -> None:
        self._errors = errors
        self._inspector.send("load_errors", errors)

    async def _list(self, values: Mapping[str, str], body: Any) -> object:
        return msgspec.Raw(self._inspector.redacted(self._errors))
