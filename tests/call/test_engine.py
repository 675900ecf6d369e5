# SPDX-License-Identifier: Apache-2.0
"""Each kind of hook, wait and failure, in this process, with a fake connection and a fake clock."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import greenlet
import pytest

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.call.observing.meter import Meter
from apisix.runner.errors import CallCancelled, ErrCode, LocalProtocolError, MetadataError, RemoteProtocolError, StoreError
from apisix.runner.http.reply import Reply
from apisix.runner.plugin.base import Base
from apisix.runner.plugin.core import PluginBase
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp
from tests.call.fake_gateway import WITHIN_S, Clock, Engine, FakeConnection, until

REFUSED = ErrResp(ErrCode.SERVICE_UNAVAILABLE)


class Scripted:
    """What the hooks of this module do, and what they have seen."""

    raises: ClassVar[BaseException | None] = None
    seen: ClassVar[list[object]] = []
    go = threading.Event()


def act() -> None:
    """Raise the exception that the test has chosen, if any."""
    if Scripted.raises is not None:
        raise Scripted.raises


@pytest.fixture(autouse=True)
def _script() -> Iterator[None]:
    Scripted.raises = None
    Scripted.seen = []
    Scripted.go = threading.Event()
    yield
    Scripted.go.set()


class Inline(Plugin[Any]):
    blocking = False

    def on_request(self, request: Any) -> None:
        act()


class Suspends(Plugin[Any]):
    blocking = False

    def on_request(self, request: Any) -> None:
        try:
            request.var("x")
        except BaseException as error:
            Scripted.seen.append(error)
            raise
        act()


class InThread(Plugin[Any]):
    blocking = True

    def on_request(self, request: Any) -> None:
        act()


class Coroutine(Plugin[Any]):
    async def on_request(self, request: Any) -> None:
        act()


class WaitingCoroutine(Plugin[Any]):
    async def on_request(self, request: Any) -> None:
        await asyncio.sleep(0)
        act()


class HiddenCoroutine(Plugin[Any]):
    """A plain hook that returns an awaitable, because of a decorator for example."""

    blocking = False

    def on_request(self, request: Any) -> Any:
        return WaitingCoroutine.on_request(self, request)  # type: ignore[arg-type]


class Needs(Plugin[Any]):
    blocking = False
    needs = ("x",)

    def on_request(self, request: Any) -> None:
        act()


class WithSetup(Plugin[Any]):
    blocking = False

    async def setup(self) -> None:
        await asyncio.sleep(0)

    def on_request(self, request: Any) -> None:
        act()


class FailingSetup(Plugin[Any]):
    async def setup(self) -> None:
        act()

    def on_request(self, request: Any) -> None:
        """Do nothing."""


class OfBase(Base):
    def filter(self, request: Any, response: Any) -> None:
        act()


class OfPluginBase(PluginBase):
    def name(self) -> str:
        return "of-plugin-base"

    def config(self, conf: Any) -> Any:
        return conf

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        act()


HOOKS = [Inline, Suspends, InThread, Coroutine, WaitingCoroutine, HiddenCoroutine, Needs, WithSetup, OfBase, OfPluginBase]


class Own(BaseException):
    """An exception that `except Exception` does not catch."""


ERRORS = [ValueError("x"), SystemExit(1), Own(), greenlet.GreenletExit(), asyncio.CancelledError(), GeneratorExit(), MemoryError()]


def run(scenario: Callable[[asyncio.AbstractEventLoop], Awaitable[None]]) -> None:
    """Run a scenario on a new event loop."""

    async def on_loop() -> None:
        await scenario(asyncio.get_running_loop())

    asyncio.run(on_loop())


async def reply_to(engine: Engine, connection: FakeConnection, token: int = 1, call_id: int = 1) -> object:
    """Make a call, reply to its info requests, and return the only reply to it."""
    connection.replies.clear()
    engine.call_soon(connection.call, token, call_id)

    def answered() -> bool:
        while connection.info_requests:
            connection.info_requests.pop()
            engine.call_soon(connection.call_runner.receive_info, b"1")
        return bool(connection.replies)

    await until(answered)
    await asyncio.sleep(0)
    (reply,) = connection.replies
    return reply


@pytest.mark.parametrize("hook", HOOKS)
def test_each_kind_of_hook(hook: Any) -> None:
    """Each call on a connection gets one reply, and no state of it remains."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [hook, Inline, hook])
        connection = engine.connect()
        replies = [await reply_to(engine, connection, call_id=number) for number in (1, 2)]
        assert replies == [HTTPReqCallResp(1), HTTPReqCallResp(2)]
        assert (engine.runtime.in_flight, engine.runtime.calls, connection.call_runner.busy) == (0, 2, False)

    run(scenario)


@pytest.mark.parametrize("hook", [*HOOKS, FailingSetup])
@pytest.mark.parametrize(
    "error",
    [ValueError("x"), SystemExit(1), Own(), greenlet.GreenletExit(), asyncio.CancelledError(), GeneratorExit(), MemoryError()],
    ids=repr,
)
def test_whatever_a_plugin_raises_refuses_its_own_call_only(hook: Any, error: BaseException) -> None:
    """The call is refused. The connection, the event loop and other calls are not affected."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [hook], [Inline])
        connection, other = engine.connect(), engine.connect()
        Scripted.raises = error
        assert await reply_to(engine, connection) == REFUSED
        Scripted.raises = None
        assert await reply_to(engine, connection, token=2, call_id=2) == HTTPReqCallResp(2)
        assert await reply_to(engine, other, token=2, call_id=3) == HTTPReqCallResp(3)
        assert engine.runtime.in_flight == 0

    run(scenario)


@pytest.mark.parametrize("hook", [Inline, Suspends, InThread, Coroutine, WaitingCoroutine, HiddenCoroutine, Needs, WithSetup])
def test_each_kind_of_hook_can_raise_a_reply(hook: Any) -> None:
    """`raise Reply(...)` ends the chain, as returning the Reply does."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [hook, FailingSetup])
        Scripted.raises = Reply(403)
        reply: Any = await reply_to(engine, engine.connect())
        assert reply.action.status == 403

    run(scenario)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_call_continues_after_a_failed_plugin_if_it_is_configured_so(hook: Any) -> None:
    """With `on_error = "pass"`, the call continues without the plugin's edits, for each kind of hook."""

    class Edits(hook):  # type: ignore[misc]
        on_error = "pass"

    class Last(Plugin[Any]):
        blocking = False

        def on_request(self, request: Any) -> None:
            request.headers["x-last"] = "1"

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Edits if issubclass(hook, Plugin) else hook, Last], default_on_error="pass")
        Scripted.raises = ValueError("x")
        reply: Any = await reply_to(engine, engine.connect())
        assert [tuple(entry) for entry in reply.action.headers] == [("x-last", "1")]

    run(scenario)


class WaitsForInfo(Suspends):
    """Wait for an info reply in the middle of a plain hook."""


class WaitsInTask(Plugin[Any]):
    """Wait in a coroutine."""

    async def on_request(self, request: Any) -> None:
        try:
            await asyncio.sleep(WITHIN_S)
        except BaseException as error:
            Scripted.seen.append(error)
            raise


class WaitsForInfoInTask(Plugin[Any]):
    """Wait for an info reply in a coroutine."""

    async def on_request(self, request: Any) -> None:
        await request.avar("x")


class WaitsInThread(Plugin[Any]):
    """Wait in a thread."""

    blocking = True

    def on_request(self, request: Any) -> None:
        Scripted.go.wait(WITHIN_S)


class WaitsForInfoInThread(Plugin[Any]):
    """Wait for an info reply in a thread."""

    blocking = True

    def on_request(self, request: Any) -> None:
        request.var("x")


class WaitsInSetup(Plugin[Any]):
    """Wait in the setup."""

    async def setup(self) -> None:
        await asyncio.sleep(WITHIN_S)

    def on_request(self, request: Any) -> None:
        """Do nothing."""


class WaitsInConstructor(Plugin[Any]):
    """Wait in the constructor, which runs while the call waits for its chain."""

    def __init__(self) -> None:
        Scripted.go.wait(WITHIN_S)

    def on_request(self, request: Any) -> None:
        """Do nothing."""


class WaitsForNeeds(Needs):
    """Wait for the variable in `needs`."""


WAITS = [
    WaitsForInfo,
    WaitsInTask,
    WaitsForInfoInTask,
    WaitsInThread,
    WaitsForInfoInThread,
    WaitsInSetup,
    WaitsInConstructor,
    WaitsForNeeds,
]


async def waiting_call(engine: Engine, connection: FakeConnection, hook: Any = None) -> None:
    """Make a call and return when it waits: in its hook, or in the constructor if that is slow."""
    if hook is not WaitsInConstructor:
        await engine.chains.build(1, response=False)
    engine.call_soon(connection.call, 1, 1)
    await until(lambda: engine.runtime.in_flight == 1)
    await asyncio.sleep(0)


@pytest.mark.parametrize("hook", WAITS)
def test_a_connection_is_busy_while_its_call_waits(hook: Any) -> None:
    """Its worker must not pass it to another process before the reply is sent."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        clock = Clock(loop)
        engine = Engine(loop, [hook], plugin_timeout_s=0.0, info_timeout_s=0.0, deadlines=clock)
        connection = engine.connect()
        assert connection.call_runner.busy is False
        await waiting_call(engine, connection, hook)
        assert connection.call_runner.busy is True

        engine.call_soon(clock.expire_all)
        await until(lambda: connection.replies)
        assert connection.call_runner.busy is False
        Scripted.go.set()

    run(scenario)


@pytest.mark.parametrize("hook", WAITS)
def test_a_deadline_ends_each_kind_of_wait(hook: Any) -> None:
    """The call gets one reply. Late results and info replies have no effect on it or on the next call."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        clock = Clock(loop)
        engine = Engine(loop, [hook], [Suspends], plugin_timeout_s=0.0, info_timeout_s=0.0, deadlines=clock)
        connection = engine.connect()
        await waiting_call(engine, connection, hook)
        if "ForInfo" in hook.__name__ or hook is WaitsForNeeds:
            await until(lambda: connection.info_requests)
        assert connection.replies == []
        engine.call_soon(clock.expire_all)
        await until(lambda: connection.replies)
        assert connection.replies == [REFUSED]

        late = len(connection.info_requests)
        connection.info_requests.clear()
        Scripted.go.set()
        connection.replies.clear()
        engine.call_soon(connection.call, 2, 2)
        await until(lambda: connection.info_requests)
        for _ in range(late):
            engine.call_soon(connection.call_runner.receive_info, b"late")
        await asyncio.sleep(0.01)  # so that a late result could resume the wrong call
        assert connection.replies == []
        engine.call_soon(connection.call_runner.receive_info, b"1")
        await until(lambda: connection.replies)
        assert connection.replies == [HTTPReqCallResp(2)]
        assert (engine.runtime.in_flight, clock.waiting()) == (0, [])

    run(scenario)


@pytest.mark.parametrize("hook", WAITS)
def test_a_hang_up_cancels_each_kind_of_wait(hook: Any) -> None:
    """There is no reply, not even when the task or thread ends later."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [hook])
        connection = engine.connect()
        await waiting_call(engine, connection, hook)
        engine.call_soon(connection.call_runner.close, "the gateway hung up")
        await until(lambda: not connection.call_runner.busy)
        Scripted.go.set()
        await asyncio.sleep(0.01)
        assert (connection.replies, engine.runtime.in_flight, engine.runtime.deadlines.waiting()) == ([], 0, [])

    run(scenario)


def test_errors_in_hooks_after_a_hang_up() -> None:
    """CallCancelled is raised in a plain hook that waits, and CancelledError in a coroutine, as in asyncio."""

    async def hang_up(engine: Engine, token: int) -> None:
        await engine.chains.build(token, response=False)
        connection = engine.connect()
        engine.call_soon(connection.call, token)
        await until(lambda: engine.runtime.in_flight == 1)
        await asyncio.sleep(0)
        engine.call_soon(connection.call_runner.close, "the gateway hung up")
        await until(lambda: len(Scripted.seen) == token)

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [WaitsForInfo], [WaitsInTask])
        await hang_up(engine, 1)
        await hang_up(engine, 2)
        assert [type(error) for error in Scripted.seen] == [CallCancelled, asyncio.CancelledError]

    run(scenario)


@pytest.mark.parametrize("hook", WAITS)
def test_a_call_that_cannot_wait_is_refused(hook: Any) -> None:
    """If max_in_flight calls wait, another call that would have to wait fails immediately. Calls that need not wait are not affected."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [WaitsInTask], [hook], [Inline], max_in_flight=1)
        first, second, third = engine.connect(), engine.connect(), engine.connect()
        await engine.chains.build(3, response=False)
        await waiting_call(engine, first)
        engine.call_soon(second.call, 2, 2)
        engine.call_soon(third.call, 3, 3)
        await until(lambda: second.replies and third.replies)
        assert (second.replies, third.replies) == ([REFUSED], [HTTPReqCallResp(3)])
        engine.call_soon(first.call_runner.close, "the test is over")
        await until(lambda: engine.runtime.in_flight == 0)

    run(scenario)


class Swallows(Plugin[Any]):
    """Catch every error, and wait again."""

    blocking = False

    def on_request(self, request: Any) -> None:
        for name in ("x", "y", "z"):
            try:
                request.var(name)
            except Exception as error:
                Scripted.seen.append(error)


def test_a_hook_cannot_swallow_a_deadline() -> None:
    """Each later attempt to wait raises the same error, and the call is refused at the end of the hook."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        clock = Clock(loop)
        engine = Engine(loop, [Swallows], plugin_timeout_s=0.0, info_timeout_s=0.0, deadlines=clock)
        connection = engine.connect()
        await waiting_call(engine, connection)
        engine.call_soon(clock.expire_all)
        await until(lambda: connection.replies)
        assert connection.replies == [REFUSED]
        assert len(Scripted.seen) == 3
        assert len({id(error) for error in Scripted.seen}) == 1

    run(scenario)


def test_a_deadline_does_not_fail_later_plugins_if_the_call_continues() -> None:
    """If the plugin that exceeded the deadline has `on_error = "pass"`, later plugins that need not wait run."""

    class Passes(WaitsForInfo):
        on_error = "pass"

    class Last(Plugin[Any]):
        blocking = False

        def on_request(self, request: Any) -> None:
            request.headers["x-last"] = "1"

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        clock = Clock(loop)
        engine = Engine(loop, [Passes, Last], plugin_timeout_s=0.0, info_timeout_s=0.0, deadlines=clock)
        connection = engine.connect()
        await waiting_call(engine, connection)
        engine.call_soon(clock.expire_all)
        await until(lambda: connection.replies)
        (reply,) = connection.replies
        assert [tuple(entry) for entry in reply.action.headers] == [("x-last", "1")]

    run(scenario)


class KeepsRequest(Plugin[Any]):
    """Keep the request after the call."""

    blocking = False

    def on_request(self, request: Any) -> None:
        Scripted.seen.append(request)


class UsesKept(Plugin[Any]):
    """Use the request of another call."""

    blocking = False

    def on_request(self, request: Any) -> None:
        kept: Any = Scripted.seen.pop()
        kept.var("x")


def test_a_request_of_a_finished_call_cannot_wait(caplog: pytest.LogCaptureFixture) -> None:
    """If a plugin has kept the request of an earlier call, it can't send info requests with it."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [KeepsRequest], [UsesKept])
        connection = engine.connect()
        assert await reply_to(engine, connection) == HTTPReqCallResp(1)
        engine.call_soon(connection.call, 2, 2)
        await until(lambda: not connection.call_runner.busy)
        assert connection.info_requests == []

    run(scenario)


def test_context_variables_are_the_same_in_all_hooks_of_a_call() -> None:
    """Each kind of hook sees the values that earlier hooks of its call have set, but no values of other calls."""
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def note() -> None:
        Scripted.seen.append(variable.get())

    class Sets(Plugin[Any]):
        blocking = False

        def on_request(self, request: Any) -> None:
            note()
            variable.set("set")

    class SeesInline(Plugin[Any]):
        blocking = False

        def on_request(self, request: Any) -> None:
            note()

    class SeesInGreenlet(Plugin[Any]):
        blocking = False

        def on_request(self, request: Any) -> None:
            request.var("x")
            note()

    class SeesInThread(Plugin[Any]):
        blocking = True

        def on_request(self, request: Any) -> None:
            note()

    class SeesInCoroutine(Plugin[Any]):
        async def on_request(self, request: Any) -> None:
            await asyncio.sleep(0)
            note()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Sets, SeesInline, SeesInCoroutine, SeesInGreenlet, SeesInThread, SeesInGreenlet, SeesInline])
        connection = engine.connect()
        for number in (1, 2):
            assert await reply_to(engine, connection, call_id=number) == HTTPReqCallResp(number)
        assert Scripted.seen == 2 * ["unset", *6 * ["set"]]

    run(scenario)


class ReadsMalformed(Plugin[Any]):
    """Raise the error that reading a malformed part of a message raises."""

    blocking = False

    def on_request(self, request: Any) -> None:
        raise RemoteProtocolError("malformed")


def test_a_malformed_message_ends_the_connection() -> None:
    """The gateway gets BAD_REQUEST, and the connection is closed."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [ReadsMalformed])
        connection = engine.connect()
        engine.call_soon(connection.call, 1)
        await until(lambda: len(connection.replies) == 2)
        assert connection.replies[0] == ErrResp(ErrCode.BAD_REQUEST)
        assert isinstance(connection.replies[1], RemoteProtocolError)

    run(scenario)


class Refuses(FakeConnection):
    """A connection that cannot send the first reply."""

    error: BaseException | None

    def send(self, message: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        super().send(message)


@pytest.mark.parametrize(
    ("error", "logged", "has_traceback"),
    [
        (LocalProtocolError("it is too large"), "the reply can't be sent, so the call is refused: it is too large", False),
        (ValueError("x"), "the reply can't be encoded, so the call is refused", True),
    ],
)
def test_a_reply_that_cannot_be_sent(error: BaseException, logged: str, has_traceback: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The call is refused. The log has a traceback, unless the message of the error is sufficient."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Inline])
        connection = Refuses(engine.runtime)
        connection.error = error
        assert await reply_to(engine, connection) == REFUSED

    run(scenario)
    assert [(record.getMessage(), record.exc_info is not None) for record in caplog.records] == [(logged, has_traceback)]


def test_an_unknown_token() -> None:
    """The gateway gets CONF_TOKEN_NOT_FOUND, so that it sends the configuration again."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Inline])
        assert await reply_to(engine, engine.connect(), token=9) == ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND)
        assert engine.runtime.unknown_tokens == 1

    run(scenario)


class CannotBeCreated(Plugin[Any]):
    def __init__(self) -> None:
        raise ValueError("x")

    def on_request(self, request: Any) -> None:
        """Do nothing."""


def test_a_refused_chain() -> None:
    """Each call is refused if a plugin of its chain cannot be created."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [CannotBeCreated])
        connection = engine.connect()
        replies = [await reply_to(engine, connection, call_id=number) for number in (1, 2)]
        assert replies == [REFUSED, REFUSED]
        assert engine.runtime.refused == 2

    run(scenario)


class AssignsTags(Plugin[Any]):
    def on_request(self, request: Any) -> None:
        request.metadata()["tags"] = ["a"]


class ChangesTags(Plugin[Any]):
    async def on_request(self, request: Any) -> None:
        (await request.ametadata())["tags"].append({"b"})


class FullStore(MemoryMetadata):
    def put(self, request_id: str, data: bytes) -> None:
        """Store nothing."""
        raise StoreError("the store is full")


CHANGED_IN_PLACE = (
    "the metadata of the request can't be written, so the call is refused: metadata['tags'] can't be written as JSON: Object of type set "
    "is not JSON serializable. It was changed in place by plugin changes-tags. Assign the changed value to metadata['tags'], and the line "
    "that does it raises the error"
)


@pytest.mark.parametrize(
    ("store", "plugins", "logged", "outcomes"),
    [
        (
            MemoryMetadata(),
            [AssignsTags, ChangesTags],
            CHANGED_IN_PLACE,
            {("assigns-tags", "continue"): 1, ("changes-tags", "continue"): 1, ("changes-tags", "error"): 1},
        ),
        (
            FullStore(),
            [AssignsTags],
            "the metadata of the request can't be written, so the call is refused: the store is full",
            {("assigns-tags", "continue"): 1},
        ),
    ],
    ids=["changed in place", "full store"],
)
def test_metadata_that_cannot_be_written(
    store: MemoryMetadata,
    plugins: list[type[Plugin[Any]]],
    logged: str,
    outcomes: dict[tuple[str, str], int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The call is refused. The log line says why without a traceback, and the metrics count an error of the plugin that is the cause."""
    failures: list[BaseException] = []

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, plugins, metadata_store=store, failure_observer=lambda _, error: failures.append(error))
        meter = engine.runtime.meter = Meter()
        assert await reply_to(engine, engine.connect()) == REFUSED
        assert {(plugin, outcome): count for (plugin, _, outcome), count in meter.outcomes.items()} == outcomes
        assert sum(sum(duration.counts) for duration in meter.durations.values()) == len(plugins)

    run(scenario)
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [(logged, None)]
    assert [type(failure) for failure in failures] == [StoreError if isinstance(store, FullStore) else MetadataError]
