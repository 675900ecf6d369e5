# SPDX-License-Identifier: Apache-2.0
"""The tokens for the configurations of routes, and how the gateway obtains them. Source: gateway contract, 3."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from apisix.gateway.runner.connection_pool import RunnerFailed, RunnerPool
from apisix.runner.wire.messages import PrepareConfReq, PrepareConfResp

LIFETIME_S = 3600.0
LOCK_TIMEOUT_S = 5.0


class Tokens:
    """Stores a token for each route, plugin and version, and requests missing ones from the runner."""

    def __init__(self, pool: RunnerPool, *, lifetime_s: float = LIFETIME_S, sends_key: bool = True) -> None:
        self._pool = pool
        self._lifetime_s = lifetime_s
        self._sends_key = sends_key
        self._tokens: dict[str, tuple[int, float]] = {}
        # One lock for all routes, so a slow PrepareConf makes others fail.
        self._lock = asyncio.Lock()

    def flush(self) -> None:
        """Forget the tokens of all routes."""
        self._tokens.clear()

    async def get(self, key: str, plugin: Mapping[str, Any]) -> int:
        """
        Return the token for a key, either a stored one or by PrepareConf over a separate connection.

        Args:
            key: `route#id#plugin#version`.
            plugin: the plugin's configuration in the route; its `conf` is sent.

        Raises: RunnerFailed: the runner did not return a token, or another PrepareConf held the lock for more than 5 s.
        """
        if (token := self._fresh(key)) is not None:
            return token
        try:
            async with asyncio.timeout(LOCK_TIMEOUT_S):
                await self._lock.acquire()
        except TimeoutError as error:
            raise RunnerFailed(f"another PrepareConf was in progress for {LOCK_TIMEOUT_S:g} s") from error
        try:
            return await self._prepare(key, plugin)
        finally:
            self._lock.release()

    def _fresh(self, key: str) -> int | None:
        token, until = self._tokens.get(key, (0, 0.0))
        return token if until > time.monotonic() else None

    async def _prepare(self, key: str, plugin: Mapping[str, Any]) -> int:
        if (token := self._fresh(key)) is not None:  # the previous holder of the lock may have requested the same token
            return token
        async with self._pool.connection() as connection:
            entries = [(entry["name"], entry["value"]) for entry in plugin.get("conf", ())]
            await connection.send(PrepareConfReq(entries, key if self._sends_key else None))
            reply = await connection.receive()
        if not isinstance(reply, PrepareConfResp):
            raise RunnerFailed(f"the runner answered PrepareConf with {type(reply).__name__}")
        self._tokens[key] = (reply.conf_token, time.monotonic() + self._lifetime_s)
        return reply.conf_token
