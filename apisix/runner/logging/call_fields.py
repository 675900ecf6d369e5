# SPDX-License-Identifier: Apache-2.0
"""The call that is running in this context, for the fields of log lines. It is read only when a line is written."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol


class CallFields(Protocol):
    """
    The fields of a log line that describe its call.

    They are read when the line is written, so they may change while the call runs.

    Attributes:
        id: the gateway's number of the call. The first of a gateway's worker is 0.
        route_key: the key of its configuration, None if the gateway is too old to send one.
        plugin: the name of the plugin that is running, None between two plugins.
        request_id: the gateway's variable `request_id`, None until a plugin has requested it.
    """

    @property
    def id(self) -> int: ...

    @property
    def route_key(self) -> str | None: ...

    @property
    def plugin(self) -> str | None: ...

    @property
    def request_id(self) -> str | None: ...


current_call: ContextVar[CallFields | None] = ContextVar("current_call", default=None)


SpanIds = Callable[[], tuple[str, str] | None]
"""Returns the ids of the current trace and span, None if there is no span."""
_span_ids: SpanIds | None = None


def set_span_ids(get: SpanIds) -> None:
    """Set the function that returns the ids for log lines. By default there are none."""
    global _span_ids  # there is one log in a process
    _span_ids = get


def span_ids() -> tuple[str, str] | None:
    """Return the ids of the current trace and span, None if there is no span."""
    return None if _span_ids is None else _span_ids()
