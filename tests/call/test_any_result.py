# SPDX-License-Identifier: Apache-2.0
"""Each call gets exactly one reply, whatever its hook returns, raises or assigns, and so does the next call."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apisix.runner.call.blocking.detector import BlockingDetector
from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.engine import CallRunner
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.plugin.plugin_type import PluginType
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import (
    ErrResp,
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Message,
)
from apisix.testing.running.entries import OfferingRegistry, Offers

Hook = Callable[[Any], Any]
REQUEST, RESPONSE = 1, 2
"""Tokens of the two configurations."""


class Scripted(Plugin[Any]):
    """Call the function that the test has set."""

    blocking = False  # on a busy machine it might be marked as blocking, and run in a thread
    script: Hook = staticmethod(lambda message: None)

    def on_request(self, request: Any) -> Any:
        return type(self).script(request)

    def on_response(self, response: Any) -> Any:
        return type(self).script(response)


class Gateway(ReplySink):
    """A gateway that decodes each frame, and replies to info requests without a result."""

    def __init__(self, runtime: Runtime) -> None:
        self.runner = Connection(Role.RUNNER)
        self.gateway = Connection(Role.GATEWAY)
        self.call_runner = CallRunner(runtime, self)
        self.replies: list[Message] = []
        self.ended: list[object] = []
        self.open = 0

    def call(self, message: Message) -> list[Message]:
        """Make a call and return the replies to it."""
        self.replies = []
        self.runner.receive_data(self.gateway.send(message))
        received: Any = self.runner.next_event()
        self.call_runner.start(received)
        while self.open:
            self.open -= 1
            self.runner.receive_data(self.gateway.send(ExtraInfoResp(None)))
            info_reply: Any = self.runner.next_event()
            self.call_runner.receive_info(info_reply.result)
        return self.replies

    def send(self, message: Message) -> None:
        self._take(self.runner.send(message))

    def send_all(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.send(message)

    def give_up(self, reason: str) -> None:
        self.ended.append(reason)

    def broken(self, error: RemoteProtocolError) -> None:
        self.ended.append(error)

    def _take(self, frame: bytearray) -> None:
        self.gateway.receive_data(frame)
        while (message := self.gateway.next_event()) is not NEED_DATA:
            if isinstance(message, ExtraInfoReq):
                self.open += 1
            else:
                assert isinstance(message, Message)
                self.replies.append(message)


class Configurations:
    """One route configuration for each phase."""

    offered = Offers().conf_of([Scripted])[1]

    def get(self, token: int) -> RouteConfiguration:
        """Return the configuration of a chain with one plugin."""
        phase = {REQUEST: Phase.PRE_REQ, RESPONSE: Phase.POST_RESP}[token]
        return RouteConfiguration(f"route#1#{phase}#1", (("scripted", "{}"),))


class NeverBlocking(BlockingDetector):
    """Marks no plugin as blocking, because its hook would run in a thread then."""

    def record(self, plugin_type: PluginType, blocked_s: float, now_s: float) -> None:
        """Do nothing."""


async def build(chains: ChainCache) -> None:
    """Build the chains of both configurations."""
    await chains.build(REQUEST, response=False)
    await chains.build(RESPONSE, response=True)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """The runtime of a worker."""
    loop = asyncio.new_event_loop()
    registry = OfferingRegistry(Registry.load(builtins=False, entry_points=False))
    registry.offered = Configurations.offered
    threads = PluginThreads(1)
    chains = ChainCache(
        registry, Configurations(), threads, capacity=9, renew_s=1e9, setup_timeout_s=1, on_error="refuse", spawn=loop.create_task
    )
    loop.run_until_complete(build(chains))  # calls that need no build do not need the event loop
    limits: dict[str, Any] = {"plugin_timeout_s": 60, "max_in_flight": 9, "on_error": "refuse", "max_decompressed_bytes": 999}
    yield Runtime(loop, chains, threads, **limits, blocking_detector=NeverBlocking())
    loop.close()


class Unprepared(Reply):
    """A reply whose constructor does nothing."""

    def __init__(self) -> None:
        pass


class Odd:
    """An object that raises an error when it is inspected. The tests name the class, and the hooks create the object."""

    def __getattribute__(self, name: str) -> Any:
        raise OSError(name)

    def __bool__(self) -> bool:
        raise OSError("bool")


ODD = [
    None,
    5,
    -1,
    2**70,
    404.0,
    "404",
    "\ud800",
    "text",
    b"",
    b"x",
    bytearray(b"x"),
    memoryview(b"xyz")[::2],
    bytes(2**24),
    {"a": 1},
    {"a": "b\r\nc: d"},
    {1: 2},
    [("a", "b")],
    [5],
    (),
    object(),
    Odd,
    Reply,
    Unprepared(),
    Reply.__new__(Reply),
    ValueError("x"),
    NotImplemented,
    iter([1]),
]
"""Values that hooks return, or assign to attributes that expect other values."""

VALUES = st.sampled_from(ODD) | st.integers() | st.text(max_size=3) | st.binary(max_size=3)
ATTRIBUTES = st.sampled_from(["status", "body", "headers", "json", "path", "args", "response_headers", "context", "id", "_body", "_status"])
NAMES = st.sampled_from(["x", "content-length", "content-type", "a b", "", "\udcff", "\ud800"]) | st.text(max_size=2)


def made(value: Any) -> Any:
    """Return the value that a hook uses for a value of `ODD`."""
    return Odd() if value is Odd else value


def assign(name: str, value: Any) -> Callable[[Any], None]:
    """Return an action that assigns an attribute."""
    return lambda target: setattr(target, name, made(value))


def put(attribute: str, name: Any, value: Any) -> Callable[[Any], None]:
    """Return an action that sets an entry of headers or arguments."""
    return lambda target: getattr(target, attribute).__setitem__(made(name), made(value))


ACTIONS = st.builds(assign, ATTRIBUTES, VALUES) | st.builds(
    put, st.sampled_from(["headers", "args", "response_headers"]), NAMES | VALUES, st.text(max_size=3) | VALUES
)


def do(actions: list[Callable[[Any], None]], target: Any, *, strict: bool) -> Any:
    """Run actions on a target, and return the target. Unless `strict` is true, ignore errors."""
    for action in actions:
        if strict:
            action(target)
        else:
            with suppress(Exception):
                action(target)
    return target


def replies_to(runtime: Runtime, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a hook in both phases, and check that each call, and the call after it, gets one reply of the right type."""
    with monkeypatch.context() as patched:
        patched.setattr(Scripted, "script", staticmethod(hook))
        gateway = Gateway(runtime)
        requested = gateway.call(HTTPReqCallReq(1, headers=[("host", "h"), ("a", "1")], args=[("x", "1")], conf_token=REQUEST))
        responded = gateway.call(HTTPRespCallReq(2, 200, [("A", "1")], RESPONSE))
        patched.setattr(Scripted, "script", staticmethod(lambda message: None))
        after = gateway.call(HTTPReqCallReq(3, conf_token=REQUEST))

    assert [type(reply) in (HTTPReqCallResp, ErrResp) for reply in requested] == [True]
    # After an error frame, the gateway would send the upstream's body.
    assert [type(reply) for reply in responded] == [HTTPRespCallResp]
    assert after == [HTTPReqCallResp(3)]
    assert gateway.ended == []


many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(result=VALUES, is_raised=st.booleans(), actions=st.lists(ACTIONS, max_size=3), strict=st.booleans())
def test_results(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, result: Any, is_raised: bool, actions: list[Callable[[Any], None]], strict: bool
) -> None:
    """A hook edits its argument in any way, and returns or raises anything."""

    def hook(message: Any) -> Any:
        do(actions, message, strict=strict)
        if is_raised:
            raise made(result)
        return made(result)

    replies_to(runtime, hook, monkeypatch)


@many
@given(actions=st.lists(ACTIONS, min_size=1, max_size=4), is_raised=st.booleans(), strict=st.booleans())
def test_replies(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, actions: list[Callable[[Any], None]], is_raised: bool, strict: bool
) -> None:
    """A hook creates a Reply, edits it in any way, and returns or raises it."""

    def hook(message: Any) -> Any:
        reply = do(actions, Reply(403, "no"), strict=strict)
        if is_raised:
            raise reply
        return reply

    replies_to(runtime, hook, monkeypatch)


@pytest.mark.parametrize("result", ODD, ids=[type(value).__name__ for value in ODD])
def test_each_odd_result(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """Each value of `ODD` is returned, and assigned to the body of a Reply."""

    def as_body(message: Any) -> Any:
        reply = Reply(403)
        reply.body = made(result)
        return reply

    replies_to(runtime, lambda message: made(result), monkeypatch)
    replies_to(runtime, as_body, monkeypatch)
