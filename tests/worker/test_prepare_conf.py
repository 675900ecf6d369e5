# SPDX-License-Identifier: Apache-2.0
"""PrepareConfs of one iteration of the event loop are written together, and each gets its own reply."""

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import uvloop

from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.errors import ErrCode
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.settings.loading import load
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp
from apisix.runner.worker.connection_handler import ConnectionHandlers
from apisix.runner.worker.context import make_context
from apisix.runner.worker.prepare_conf import TOGETHER, PrepareConfWriter, Reply

BOUND_S = 10.0
Configurations = Iterable[tuple[str | None, Sequence[tuple[str, str]]]]


class CountingStore(ConfStore):
    """A store that records how many configurations it gets at once, and raises an error for the key "poison"."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, expire_s=60, max_entries=1000)
        self.given: list[int] = []

    def put_many(self, configurations: Configurations) -> list[int]:
        listed = list(configurations)
        self.given.append(len(listed))
        if any(key == "poison" for key, _ in listed):
            raise ValueError("poison")
        return super().put_many(listed)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of a worker."""
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    """An empty store."""
    store = CountingStore(choose_path(tmp_path / "runner.sock", None))
    yield store
    store.close()


def add_all(loop: asyncio.AbstractEventLoop, store: ConfStore, keys: Sequence[str]) -> dict[str, list[Reply]]:
    """Add a configuration for each key within one iteration, and return the replies to each."""
    replies: dict[str, list[Reply]] = {key: [] for key in keys}
    preparations = PrepareConfWriter(store, loop)

    async def turn() -> None:
        for key in keys:
            preparations.add(RouteConfiguration(key, (("stop", "{}"),)), replies[key].append)
        assert [reply for received in replies.values() for reply in received] == []
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(turn())
    return replies


def test_one_iteration_is_one_transaction(loop: asyncio.AbstractEventLoop, store: CountingStore) -> None:
    """Configurations of one iteration of the event loop are written together, and each gets its own token."""
    replies = add_all(loop, store, ["a", "b", "c"])

    assert store.given == [3]
    tokens = {key: reply.conf_token for key, (reply,) in replies.items() if isinstance(reply, PrepareConfResp)}
    assert {key: getattr(store.get(token), "key", None) for key, token in tokens.items()} == {"a": "a", "b": "b", "c": "c"}


def test_many_are_written_in_parts(loop: asyncio.AbstractEventLoop, store: CountingStore) -> None:
    """Many configurations are written in several iterations, so that calls do not wait, and each gets one reply."""
    replies = add_all(loop, store, [str(number) for number in range(2 * TOGETHER + 1)])

    assert store.given == [TOGETHER, TOGETHER, 1]
    assert {len(received) for received in replies.values()} == {1}


def test_an_error_affects_one_configuration(
    loop: asyncio.AbstractEventLoop, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """If one configuration fails, only that one is refused, and the log contains its key."""
    replies = add_all(loop, store, ["a", "poison", "b"])

    assert replies["poison"] == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
    assert isinstance(replies["a"][0], PrepareConfResp)
    assert isinstance(replies["b"][0], PrepareConfResp)
    assert [record.getMessage() for record in caplog.records] == ["a configuration could not be stored: poison"]


def test_a_reply_that_cannot_be_sent(loop: asyncio.AbstractEventLoop, store: CountingStore, caplog: pytest.LogCaptureFixture) -> None:
    """If a reply can't be sent, the replies after it are still sent."""
    replies: list[Reply] = []
    preparations = PrepareConfWriter(store, loop)

    def fail(reply: Reply) -> None:
        raise OSError("gone")

    async def turn() -> None:
        preparations.add(RouteConfiguration("a", ()), fail)
        preparations.add(RouteConfiguration("b", ()), replies.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(turn())
    assert len(replies) == 1
    assert "the reply to a PrepareConf could not be sent" in caplog.text


@pytest.fixture
def handlers(loop: asyncio.AbstractEventLoop, store: CountingStore) -> Iterator[ConnectionHandlers]:
    """The connections of a worker without plugins."""
    handlers = ConnectionHandlers(loop, make_context(load(None, {}, {}), Registry.load((), ()), store, loop))
    yield handlers
    loop.run_until_complete(handlers.close(0))


def connect(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> socket.socket:
    """Return the gateway's end of a connection that is served."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    loop.run_until_complete(handlers.adopt(theirs))
    return ours


def next_message(loop: asyncio.AbstractEventLoop, end: socket.socket, connection: Connection) -> object:
    """Return the next message that arrives."""
    while (event := connection.next_event()) is NEED_DATA:
        connection.receive_data(loop.run_until_complete(asyncio.wait_for(loop.sock_recv(end, 1 << 16), BOUND_S)))
    return event


def test_connections_share_a_transaction(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, store: CountingStore) -> None:
    """PrepareConfs that wait on several connections in one iteration are written together."""
    ends = [connect(loop, handlers) for _ in range(8)]
    gateways = [Connection(Role.GATEWAY) for _ in ends]
    try:
        for number, (end, gateway) in enumerate(zip(ends, gateways, strict=True)):
            end.send(gateway.send(PrepareConfReq([("stop", "{}")], f"route#{number}#ext-plugin-pre-req#1")))
        replies = [next_message(loop, end, gateway) for end, gateway in zip(ends, gateways, strict=True)]
    finally:
        for end in ends:
            end.close()

    assert len({reply.conf_token for reply in replies if isinstance(reply, PrepareConfResp)}) == 8
    assert store.given == [8]


def test_a_call_waits_for_the_reply(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A call in the same packet as a PrepareConf gets its reply after it."""
    with connect(loop, handlers) as end:
        gateway = Connection(Role.GATEWAY)
        prepare = PrepareConfReq([], None)
        end.send(gateway.send(prepare))
        prepared = next_message(loop, end, gateway)
        assert isinstance(prepared, PrepareConfResp)
        frame = gateway.send(prepare)
        end.send(frame + HTTPReqCallReq(id=7, conf_token=prepared.conf_token).encode_frame())
        assert next_message(loop, end, gateway) == prepared
        gateway.send(
            HTTPReqCallReq(id=7, conf_token=prepared.conf_token)
        )  # the call was sent above; now the gateway's side of the connection has to know it
        assert next_message(loop, end, gateway) == HTTPReqCallResp(7, None)


def test_a_connection_is_not_released_during_a_prepare_conf(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, caplog: pytest.LogCaptureFixture
) -> None:
    """Between a PrepareConf and its reply, the connection is not released. If it is closed meanwhile, nothing is logged."""
    with connect(loop, handlers) as end:
        end.send(Connection(Role.GATEWAY).send(PrepareConfReq()))

        async def hang_up_in_the_middle() -> list[socket.socket]:
            while all(handler.idle for handler in handlers._open):  # noqa: ASYNC110  # a handler does not signal that it has begun
                await asyncio.sleep(0)
            released = handlers.release_idle()
            for handler in list(handlers._open):
                handler.cut()
            return released

        assert loop.run_until_complete(asyncio.wait_for(hang_up_in_the_middle(), BOUND_S)) == []
        assert loop.run_until_complete(asyncio.wait_for(loop.sock_recv(end, 100), BOUND_S)) == b""
    assert caplog.text == ""
