# SPDX-License-Identifier: Apache-2.0
"""
An imitation of nginx: it makes calls at a steady rate, over pooled and new connections, and never repeats a call.

Source: gateway contract, 1: idle connections are kept. If the runner closes one that the gateway is about to use, the client gets 503.
"""

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any, Final

from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ExtraInfoReq, ExtraInfoResp, PrepareConfReq, PrepareConfResp
from tests.soak.checked_calls import KINDS, Facts, Wrong, answer_to

POOL_SIZE: Final = 32
NEW_EVERY: Final = 4
"""One call of so many opens a connection although the pool contains one, and closes it afterwards, as a second nginx worker might."""
READ_TIMEOUT_S: Final = 20.0


class PooledConnection:
    """One connection to the runner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.protocol = Connection(Role.GATEWAY)

    @property
    def closed_by_runner(self) -> bool:
        """True if the runner has closed the connection. nginx notices that while a connection is idle."""
        return self.reader.at_eof()

    async def send_and_receive(self, message: Any, facts: Facts) -> Any:
        """
        Send a message, answer the runner's info requests, and return its reply. Raise OSError, EOFError or TimeoutError if there is none.
        """
        async with asyncio.timeout(READ_TIMEOUT_S):
            self.writer.write(self.protocol.send(message))
            while True:
                event = self.protocol.next_event()
                if event is NEED_DATA:
                    data = await self.reader.read(1 << 16)
                    if not data:
                        raise EOFError("the runner closed the connection")
                    self.protocol.receive_data(data)
                elif isinstance(event, ExtraInfoReq):
                    self.writer.write(self.protocol.send(ExtraInfoResp(answer_to(facts, event.info))))
                else:
                    return event


class PooledCalls:
    """
    Calls at `rate` a second until `end`.

    Attributes:
        answered: how many calls got a correct reply.
        failures: the number of each failure. Each of them would be a 503.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self._path = path
        self._rate = rate
        self._pool: list[PooledConnection] = []
        self._tokens: dict[int, int] = {}
        self._ids = itertools.count()
        self._calls: set[asyncio.Task[None]] = set()
        self._ending = False

    @property
    def in_progress(self) -> int:
        """Return the number of calls in progress."""
        return len(self._calls)

    async def run(self) -> None:
        """Make calls until `end` is called, and wait for the last of them."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in itertools.count():
            if self._ending:
                break
            if (pause_s := began_s + number / self._rate - loop.time()) > 0:
                await asyncio.sleep(pause_s)
            call = loop.create_task(self._call(number))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        await asyncio.gather(*self._calls)
        for connection in self._pool:
            connection.writer.close()

    def end(self) -> None:
        """Make no further calls."""
        self._ending = True

    async def _call(self, number: int) -> None:
        is_new = number % NEW_EVERY == 0
        kind_index = number % len(KINDS)
        call_id = next(self._ids)
        connection = None
        try:
            connection = await self._connection(is_new)
            facts = Facts(call_id, f"n{call_id}", f"route-{kind_index}")
            token = await self._token(connection, kind_index, facts)
            KINDS[kind_index].check(facts, await connection.send_and_receive(KINDS[kind_index].build(facts, token), facts))
        except (OSError, EOFError, Wrong) as error:  # asyncio's TimeoutError is an OSError
            self.failures[f"{type(error).__name__}: {error}"] += 1
            if connection is not None:
                connection.writer.close()
            return
        self.answered += 1
        if is_new or len(self._pool) >= POOL_SIZE:
            connection.writer.close()
        else:
            self._pool.append(connection)

    async def _connection(self, is_new: bool) -> PooledConnection:
        while self._pool and not is_new:
            connection = self._pool.pop()  # the one that was used last, as in nginx
            if not connection.closed_by_runner:
                return connection
            connection.writer.close()
        return PooledConnection(*await asyncio.open_unix_connection(self._path))

    async def _token(self, connection: PooledConnection, kind_index: int, facts: Facts) -> int:
        token = self._tokens.get(kind_index)
        if token is None:
            kind = KINDS[kind_index]
            request = PrepareConfReq([(kind.plugin, f'{{"route": "{facts.route}"}}')], f"route#{facts.route}#{kind.phase}#1")
            prepared = await connection.send_and_receive(request, facts)
            if not isinstance(prepared, PrepareConfResp):
                raise Wrong(f"expected PrepareConfResp, got {prepared!r}")
            token = self._tokens[kind_index] = prepared.conf_token
        return token
