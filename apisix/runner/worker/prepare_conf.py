# SPDX-License-Identifier: Apache-2.0
"""The PrepareConfs that arrive together, written together: one transaction costs about as much as it does for a single one."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from apisix.runner.conf_store.store import ConfStore
from apisix.runner.errors import ErrCode
from apisix.runner.plugin.route_configuration import RouteConfiguration
from apisix.runner.wire.messages import ErrResp, PrepareConfResp

logger = logging.getLogger(__name__)

TOGETHER: Final = 64
"""How many are written at once, so that neither calls nor other workers wait for longer than some milliseconds."""

Answer = PrepareConfResp | ErrResp
Waiting = tuple[RouteConfiguration, Callable[[Answer], None]]


class PrepareConfWriter:
    """The PrepareConfs of one worker: collected while the loop turns once, written and answered in the next turn, in their order."""

    def __init__(self, store: ConfStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._waiting: list[Waiting] = []

    def add(self, configuration: RouteConfiguration, answer: Callable[[Answer], None]) -> None:
        """Have a configuration written. `answer` is called exactly once, later, whatever the disk or SQLite does."""
        if not self._waiting:
            self._loop.call_soon(self._write)
        self._waiting.append((configuration, answer))

    def _write(self) -> None:
        together, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
        if self._waiting:
            self._loop.call_soon(self._write)
        for (_, answer), reply in zip(together, self._replies(together), strict=True):
            try:
                answer(reply)
            except Exception:  # the others are answered all the same
                logger.exception("the answer to a PrepareConf could not be sent")

    def _replies(self, together: list[Waiting]) -> list[Answer]:
        try:
            return [PrepareConfResp(token) for token in self._store.put_many([(one.key, one.entries) for one, _ in together])]
        except Exception:
            if len(together) > 1:  # what is wrong with one must not refuse the others
                return [reply for one in together for reply in self._replies([one])]
            logger.exception("a configuration could not be stored: %s", together[0][0].key)
            return [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
