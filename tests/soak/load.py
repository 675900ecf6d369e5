# SPDX-License-Identifier: Apache-2.0
"""
A load in its own process: a gateway that makes calls and checks the content of each reply.

`python -m tests.soak.load --socket PATH --rate 200 --connections 32` runs until its standard input ends. It prints "ready" when
every connection has got a reply, and prints the results as one JSON object at the end.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections import Counter
from typing import Any, Final

import msgspec
import uvloop

from apisix.runner.errors import ErrCode, RemoteProtocolError
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq, ExtraInfoResp, HTTPRespCallResp, PrepareConfReq, PrepareConfResp
from tests.soak.checked_calls import KINDS, Facts, Wrong, answer_to

READ_TIMEOUT_S: Final = 60.0
"""As the gateway's. Source: gateway contract, 1."""
ATTEMPTS: Final = 3
"""How often the gateway tries when a token is unknown. Source: gateway contract, 3."""
FAILURES_KEPT: Final = 2000


class Failure(msgspec.Struct):
    """
    A call that did not get a correct reply.

    Attributes:
        at_s: when, by `time.monotonic`.
        how: lost (no reply), refused (SERVICE_UNAVAILABLE), unconnected (nothing listened) or wrong.
        pid: the pid of the worker that last replied on this connection, 0 if there was no reply.
    """

    at_s: float
    how: str
    pid: int
    detail: str


class Seen(msgspec.Struct):
    """
    The results of a load.

    Attributes:
        counts: the number of calls by outcome, and by other events.
        longest_gap_s: the longest time between two correct replies on any connection.
        longest_wait_s: the longest time between two correct replies on one connection, minus the pause between its calls.
        versions: when each version of the plugins first sent a reply, by `time.monotonic`.
    """

    counts: dict[str, int]
    seconds: float
    longest_gap_s: float
    longest_wait_s: float
    versions: dict[str, float]
    failures: list[Failure]


class _NoReply(Exception):
    """Raised if the connection or the time ended before there was a reply."""


class _Refused(Exception):
    """Raised if the reply of the runner is SERVICE_UNAVAILABLE."""


class Gateway:
    """The state that all connections share: the tokens, as in the gateway's shared dict, and the counts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.versions: dict[str, float] = {}
        self.ending = False
        self.began_s = self.answered_s = time.monotonic()
        self.longest_gap_s = self.longest_wait_s = 0.0
        self.ids = itertools.count()
        self._routes = itertools.count(1)
        self._confs: dict[int, str] = {}
        self._tokens: dict[int, int] = {}

    async def token(self, line: "Line", kind_index: int) -> tuple[int, str]:
        """Return the token and the name of a kind's route. If there is no token yet, prepare it over `line`."""
        route = self._confs.get(kind_index)
        if route is None:
            route = self._confs[kind_index] = f"route-{next(self._routes)}"
        token = self._tokens.get(kind_index)
        if token is None:
            kind = KINDS[kind_index]
            token = await line.prepare(f"route#{route}#{kind.phase}#1", kind.plugin, f'{{"route": "{route}"}}')
            if self._confs.get(kind_index) == route:  # not of a route that was changed meanwhile
                self._tokens[kind_index] = token
            self.counts["prepared"] += 1
            return token, route
        return token, route

    def forget_tokens(self) -> None:
        """Act like the gateway when a token is unknown."""
        self.counts["token unknown"] += 1
        self._tokens.clear()

    def change_a_route(self, kind_index: int) -> None:
        """Give a kind a new configuration, as an operator does by editing a route."""
        self._confs.pop(kind_index, None)
        self._tokens.pop(kind_index, None)

    def failed(self, how: str, pid: int, error: BaseException | str) -> None:
        """Count a call that failed."""
        self.counts[how] += 1
        if len(self.failures) < FAILURES_KEPT:
            detail = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
            self.failures.append(Failure(time.monotonic(), how, pid, detail[:300]))

    def answered(self, line: "Line", told: dict[str, str], due_s: float) -> None:
        """Count a call that got a correct reply."""
        now_s = time.monotonic()
        self.counts["answered"] += 1
        self.longest_gap_s = max(self.longest_gap_s, now_s - self.answered_s)
        self.longest_wait_s = max(self.longest_wait_s, now_s - max(due_s, line.answered_s))
        self.answered_s = line.answered_s = now_s
        line.pid = int(told["x-pid"])
        if told["x-version"] not in self.versions:
            self.versions[told["x-version"]] = now_s

    def seen(self) -> Seen:
        """Return everything that was recorded."""
        seconds = time.monotonic() - self.began_s
        return Seen(dict(self.counts), seconds, self.longest_gap_s, self.longest_wait_s, self.versions, self.failures)


class Line:
    """One connection of the gateway, opened again if the runner has closed it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connection = Connection(Role.GATEWAY)
        self._calls = 0
        self.pid = 0
        self.answered_s = time.monotonic()

    async def run(self, period_s: float, offset_s: float, churn: int, ready: asyncio.Event) -> None:
        """Call every `period_s` seconds, or without a pause if it is 0. Hang up after `churn` calls, unless it is 0."""
        due_s = time.monotonic() + offset_s
        self.answered_s = due_s
        for kind_index in itertools.cycle(range(len(KINDS))):
            if self._gateway.ending:
                break
            if (pause_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(pause_s)
            await self._attempt(kind_index, due_s)
            if self.pid:
                ready.set()
            if churn and self._calls >= churn:
                self._close()
            due_s = max(due_s + period_s, time.monotonic() if period_s == 0 else 0.0)
        self._close()

    async def prepare(self, key: str, plugin: str, value: str) -> int:
        """Return a token. Raises: _NoReply, _Refused, Wrong."""
        prepared = await self._send_and_receive(PrepareConfReq([(plugin, value)], key), None)
        if prepared == ErrResp(ErrCode.SERVICE_UNAVAILABLE):
            raise _Refused("SERVICE_UNAVAILABLE to a PrepareConf")
        if not isinstance(prepared, PrepareConfResp):
            raise Wrong(f"expected PrepareConfResp, got {prepared!r}")
        return prepared.conf_token

    async def _attempt(self, kind_index: int, due_s: float) -> None:
        gateway = self._gateway
        gateway.counts["calls"] += 1
        try:
            for _ in range(ATTEMPTS):
                await self._connect()
                token, route = await gateway.token(self, kind_index)
                call_id = next(gateway.ids) & 0xFFFFFFFF
                facts = Facts(call_id, f"n{call_id}", route)
                kind = KINDS[kind_index]
                reply = await self._send_and_receive(kind.build(facts, token), facts)
                self._calls += 1
                if isinstance(reply, ErrResp) and reply.code is ErrCode.CONF_TOKEN_NOT_FOUND:
                    gateway.forget_tokens()
                    continue
                if isinstance(reply, ErrResp) and reply.code is ErrCode.SERVICE_UNAVAILABLE:
                    return gateway.failed("refused", self.pid, "SERVICE_UNAVAILABLE")
                if isinstance(reply, HTTPRespCallResp) and reply.status == 503:
                    return gateway.failed("refused", self.pid, "503")
                return gateway.answered(self, kind.check(facts, reply), due_s)
            gateway.failed("refused", self.pid, f"{ATTEMPTS} times CONF_TOKEN_NOT_FOUND")
        except (ConnectionRefusedError, FileNotFoundError) as error:
            gateway.failed("unconnected", 0, error)
            await asyncio.sleep(0.02)
        except (_NoReply, OSError) as error:
            gateway.failed("lost", self.pid, error)
            self._close()
        except _Refused as error:
            gateway.failed("refused", self.pid, error)
        except (Wrong, RemoteProtocolError, ValueError, KeyError) as error:
            gateway.failed("wrong", self.pid, error)
            self._close()

    async def _connect(self) -> None:
        if self._reader is not None and self._reader.at_eof():
            # nginx watches its idle connections and drops one that is closed, so this costs no call.
            self._gateway.counts["idle connection closed"] += 1
            self._close()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_unix_connection(self._gateway.path)
            self._connection = Connection(Role.GATEWAY)
            self._calls = 0
            self.pid = 0

    async def _send_and_receive(self, message: Any, facts: Facts | None) -> Any:
        assert self._reader is not None
        assert self._writer is not None
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                self._writer.write(self._connection.send(message))
                while True:
                    event = self._connection.next_event()
                    if event is NEED_DATA:
                        data = await self._reader.read(1 << 16)
                        if not data:
                            raise _NoReply("the connection was closed")
                        self._connection.receive_data(data)
                    elif isinstance(event, ExtraInfoReq) and facts is not None:
                        self._writer.write(self._connection.send(ExtraInfoResp(answer_to(facts, event.info))))
                    else:
                        return event
        except TimeoutError:
            raise _NoReply("60 s without a reply") from None

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def run(path: str, rate: float, connections: int, churn: int, routes_every_s: float) -> Seen:
    """Make calls until standard input ends."""
    gateway = Gateway(path)
    period_s = connections / rate if rate else 0.0
    ready = [asyncio.Event() for _ in range(connections)]
    lines = [
        asyncio.create_task(Line(gateway).run(period_s, period_s * index / connections, churn, event)) for index, event in enumerate(ready)
    ]
    await asyncio.gather(*(event.wait() for event in ready))
    print("ready", flush=True)
    gateway.longest_gap_s = gateway.longest_wait_s = 0.0  # the start is not a gap
    editing = asyncio.create_task(_edit_routes(gateway, routes_every_s))
    told_to_end = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told_to_end), sys.stdin)
    await told_to_end.read()
    gateway.ending = True
    editing.cancel()
    await asyncio.gather(*lines)
    return gateway.seen()


async def _edit_routes(gateway: Gateway, every_s: float) -> None:
    for kind_index in itertools.cycle(range(len(KINDS))):
        await asyncio.sleep(every_s)
        gateway.change_a_route(kind_index)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second in all, 0 for as many as possible")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--churn", type=int, default=0, help="hang up after so many calls, 0 for never")
    parser.add_argument("--routes-every", type=float, default=0.2, help="change a route every so many seconds")
    options = parser.parse_args()
    seen = uvloop.run(run(options.socket, options.rate, options.connections, options.churn, options.routes_every))
    print(msgspec.json.encode(seen).decode(), flush=True)


if __name__ == "__main__":
    main()
