# SPDX-License-Identifier: Apache-2.0
"""Write the PrepareConfs that arrive together in one transaction, which takes about as long as a transaction for one of them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from apisix.runner.conf_store.store import ConfStore
from apisix.runner.errors import ErrCode
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.wire.messages import ErrResp, PrepareConfResp

logger = logging.getLogger(__name__)

TOGETHER: Final = 64
"""How many are written in one transaction, so that neither calls nor other workers wait for long."""

Reply = PrepareConfResp | ErrResp
Waiting = tuple[RouteConfiguration, Callable[[Reply], None]]


class PrepareConfWriter:
    """Collects the PrepareConfs of one iteration of the event loop. Writes them and sends the replies in the next iteration, in order."""

    def __init__(self, store: ConfStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._waiting: list[Waiting] = []

    def add(self, configuration: RouteConfiguration, on_reply: Callable[[Reply], None]) -> None:
        """Write a configuration. `on_reply` is called with the reply exactly once, later, even if the disk or SQLite fails."""
        if not self._waiting:
            self._loop.call_soon(self._write)
        self._waiting.append((configuration, on_reply))

    def _write(self) -> None:
        together, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
        if self._waiting:
            self._loop.call_soon(self._write)
        for (_, on_reply), reply in zip(together, self._replies(together), strict=True):
            try:
                on_reply(reply)
            except Exception:  # the others still get their replies
                logger.exception("the reply to a PrepareConf could not be sent")

    def _replies(self, together: list[Waiting]) -> list[Reply]:
        try:
            return [PrepareConfResp(token) for token in self._store.put_many([(one.key, one.entries) for one, _ in together])]
        except Exception:
            if len(together) > 1:  # an error of one must not refuse the others
                return [reply for one in together for reply in self._replies([one])]
            logger.exception("a configuration could not be stored: %s", together[0][0].key)
            return [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
