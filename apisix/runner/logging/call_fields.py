# SPDX-License-Identifier: Apache-2.0
"""Which call is running here, so that each log line can say so. Cheap by design: it is read only when a line is written."""

from contextvars import ContextVar
from typing import Protocol


class CallFields(Protocol):
    """
    What a log line says about its call.

    They are read when the line is written, so they may change while the call runs.

    Attributes:
        id: the gateway's number of the call. The first of a gateway's worker is 0.
        route_key: the key of its configuration, None where the gateway is old and sends none.
        plugin: the name of the plugin that runs, None between two of them.
        request_id: the gateway's variable `request_id`, None as long as nobody has asked for it.
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
