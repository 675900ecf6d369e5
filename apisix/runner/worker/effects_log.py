# SPDX-License-Identifier: Apache-2.0
"""Log the record of each call, for the development gateway, which reads it from the runner's log."""

import logging
from typing import Final

import msgspec

from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.call.observing.trace import CallListener, CallTrace

LOGGER: Final = "apisix.effects"
"""The logger of these lines. The field `record` of each is a record of a call (`records/format.py`), without secrets."""

logger = logging.getLogger(LOGGER)
logger.setLevel(logging.INFO)  # with `logging.effects`, they are logged at any `logging.level`


class EffectsLog(CallListener):
    """Logs one line for each call, before its reply is sent, so that a reader of the log has both at about the same time."""

    def __init__(self) -> None:
        super().__init__()
        self._maker = RecordMaker()

    def ended(self, trace: CallTrace) -> None:
        """Log the record of a call."""
        record = msgspec.json.decode(self._maker.encode(trace))
        logger.info("%s %s", record.get("phase", "a call"), trace.call_id, extra={"record": record})
