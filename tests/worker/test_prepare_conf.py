# SPDX-License-Identifier: Apache-2.0
"""PrepareConfs of one turn of the loop are written together, and each gets its own answer."""

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import uvloop

from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.errors import ErrCode
from apisix.runner.plugin.registry import Registry
from apisix.runner.plugin.route_configuration import RouteConfiguration
from apisix.runner.settings.table import load
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp
from apisix.runner.worker.connection_handler import ConnectionHandlers, make_context
from apisix.runner.worker.prepare_conf import TOGETHER, PrepareConfWriter, Reply

BOUND_S = 10.0
Configurations = Iterable[tuple[str | None, Sequence[tuple[str, str]]]]


class CountingStore(ConfStore):
    """A store that notes how many it is given at once, and refuses the key "poison" as if that were a defect."""

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
    """The loop of a worker."""
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    """A store of its own."""
    store = CountingStore(choose_path(tmp_path / "runner.sock", None))
    yield store
    store.close()


def add_all(loop: asyncio.AbstractEventLoop, store: ConfStore, keys: Sequence[str]) -> dict[str, list[Reply]]:
    """Add a configuration for each key within one turn, and return the answers to each."""
    answers: dict[str, list[Reply]] = {key: [] for key in keys}
    preparations = PrepareConfWriter(store, loop)

    async def turn() -> None:
        for key in keys:
            preparations.add(RouteConfiguration(key, (("stop", "{}"),)), answers[key].append)
        assert [answer for answered in answers.values() for answer in answered] == []
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(turn())
    return answers


def test_one_turn_is_one_transaction(loop: asyncio.AbstractEventLoop, store: CountingStore) -> None:
    """What came in one turn of the loop is written at once, and each gets the token of its own configuration."""
    answers = add_all(loop, store, ["a", "b", "c"])

    assert store.given == [3]
    tokens = {key: reply.conf_token for key, (reply,) in answers.items() if isinstance(reply, PrepareConfResp)}
    assert {key: getattr(store.get(token), "key", None) for key, token in tokens.items()} == {"a": "a", "b": "b", "c": "c"}


def test_many_are_written_in_parts(loop: asyncio.AbstractEventLoop, store: CountingStore) -> None:
    """So many that calls would wait are written in several turns, and all are answered, once."""
    answers = add_all(loop, store, [str(number) for number in range(2 * TOGETHER + 1)])

    assert store.given == [TOGETHER, TOGETHER, 1]
    assert {len(answered) for answered in answers.values()} == {1}


def test_one_that_fails_fails_alone(loop: asyncio.AbstractEventLoop, store: CountingStore, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with one configuration refuses that one only, and the log names it by its key."""
    answers = add_all(loop, store, ["a", "poison", "b"])

    assert answers["poison"] == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
    assert isinstance(answers["a"][0], PrepareConfResp)
    assert isinstance(answers["b"][0], PrepareConfResp)
    assert [record.getMessage() for record in caplog.records] == ["a configuration could not be stored: poison"]


def test_one_that_can_not_be_answered(loop: asyncio.AbstractEventLoop, store: CountingStore, caplog: pytest.LogCaptureFixture) -> None:
    """Where an answer can't be sent, those behind it are answered still."""
    answers: list[Reply] = []
    preparations = PrepareConfWriter(store, loop)

    def fail(reply: Reply) -> None:
        raise OSError("gone")

    async def turn() -> None:
        preparations.add(RouteConfiguration("a", ()), fail)
        preparations.add(RouteConfiguration("b", ()), answers.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(turn())
    assert len(answers) == 1
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
    """Return the next message that comes."""
    while (event := connection.next_event()) is NEED_DATA:
        connection.receive_data(loop.run_until_complete(asyncio.wait_for(loop.sock_recv(end, 1 << 16), BOUND_S)))
    return event


def test_connections_share_a_transaction(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, store: CountingStore) -> None:
    """What waits on several connections when the loop looks is written together."""
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


def test_what_follows_waits_for_the_answer(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A call in the same packet as a PrepareConf is answered after it."""
    with connect(loop, handlers) as end:
        gateway = Connection(Role.GATEWAY)
        prepare = PrepareConfReq([], None)
        end.send(gateway.send(prepare))
        prepared = next_message(loop, end, gateway)
        assert isinstance(prepared, PrepareConfResp)
        frame = gateway.send(prepare)
        end.send(frame + HTTPReqCallReq(id=7, conf_token=prepared.conf_token).encode_frame())
        assert next_message(loop, end, gateway) == prepared
        gateway.send(HTTPReqCallReq(id=7, conf_token=prepared.conf_token))  # it has been sent; now the gateway knows too
        assert next_message(loop, end, gateway) == HTTPReqCallResp(7, None)


def test_nothing_is_released_while_it_is_prepared(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, caplog: pytest.LogCaptureFixture
) -> None:
    """Between a PrepareConf and its answer the connection stays with its worker; hung up meanwhile, it ends without a word in the log."""
    with connect(loop, handlers) as end:
        end.send(Connection(Role.GATEWAY).send(PrepareConfReq()))

        async def hang_up_in_the_middle() -> list[socket.socket]:
            while all(handler.idle for handler in handlers._open):  # noqa: ASYNC110  # a session tells nobody that it has begun
                await asyncio.sleep(0)
            released = handlers.release_idle()
            for handler in list(handlers._open):
                handler.cut()
            return released

        assert loop.run_until_complete(asyncio.wait_for(hang_up_in_the_middle(), BOUND_S)) == []
        assert loop.run_until_complete(asyncio.wait_for(loop.sock_recv(end, 100), BOUND_S)) == b""
    assert caplog.text == ""
