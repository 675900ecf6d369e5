# SPDX-License-Identifier: Apache-2.0
"""Log what plugins did to each call, for the development gateway, which reads it from the runner's log."""

import logging
from collections.abc import Sequence

from apisix.runner.call.observing.effects import Effect
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response

LOGGER = "apisix.effects"
"""The logger of these lines. The field `effects` of each is a list of {plugin, took_s, changes, stopped, error}."""

logger = logging.getLogger(LOGGER)
logger.setLevel(logging.INFO)  # with `logging.effects`, they are logged at any `logging.level`


def log_effects(call: Request | Response, effects: Sequence[Effect]) -> None:
    """Log one line for one call, before its reply is sent, so that a reader of the log has both at about the same time."""
    fields = [
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
        call.phase or "a call",
        call.id,
        extra={"call_id": call.id, "phase": call.phase, "effects": fields},
    )
