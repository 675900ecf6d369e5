# SPDX-License-Identifier: Apache-2.0
"""Log what plugins did to each call, for the development gateway, which reads it from the runner's log."""

import logging
from collections.abc import Sequence

from apisix.runner.call.observing.effects import Effect
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response

LOGGER = "apisix.effects"
"""The logger of these lines; `effects` in each is a list of {plugin, took_s, changes, stopped, error}."""

logger = logging.getLogger(LOGGER)
logger.setLevel(logging.INFO)  # who sets `logging.effects` gets them at any `logging.level`


def log_effects(exchange: Request | Response, effects: Sequence[Effect]) -> None:
    """Write one line for one call, before it is answered: so a reader has it about when it has the answer."""
    told = [
        {
            "plugin": effect.plugin,
            "took_s": effect.took_s,
            "changes": list(effect.changes),
            "stopped": effect.stopped,
            "error": effect.error,
        }
        for effect in effects
    ]
    logger.info(
        "%s %s",
        exchange.phase or "a call",
        exchange.id,
        extra={"call_id": exchange.id, "phase": exchange.phase, "effects": told},
    )
