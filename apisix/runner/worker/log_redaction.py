# SPDX-License-Identifier: Apache-2.0
"""Replace secrets of calls in the log, which plugins may write there, or which are in the message of an exception."""

from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.logging.call_fields import current_call
from apisix.runner.settings.table import Settings


class LogRedaction:
    """
    Replaces the secrets of the running call in a line: those of its headers, arguments and configuration.

    Args: settings: with the setting `record.redact`, further names whose values are secret.
    """

    def __init__(self, settings: Settings) -> None:
        self._maker = RecordMaker(redact=settings.record_redact)

    def __call__(self, line: str) -> str:
        """Return the line with digests in place of secrets. Outside of calls, return it unchanged."""
        call = current_call.get()
        message, chain = getattr(call, "message", None), getattr(call, "chain", None)
        if message is None or chain is None:
            return line
        try:
            redactor = self._maker.redactor(chain, message)
        except RemoteProtocolError:  # the headers can't be read, by plugins neither
            return line
        return redactor.plain(line)
