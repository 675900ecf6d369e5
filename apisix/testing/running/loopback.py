# SPDX-License-Identifier: Apache-2.0
"""A connection in memory: the gateway and the runner are both in this process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import greenlet

from apisix.runner.call.engine import CallRunner
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.errors import MessageTooLarge
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq, ExtraInfoResp, Info, PrepareConfReq, PrepareConfResp, Var


class Hub:
    """
    The greenlet of the event loop. A hook switches to it while it waits.

    Compiled modules add no Python frame between a hook and the switch. coverage.py detects a switch when a Python function is called or
    returns. Without this `switch`, it would attribute the next lines of the hook to another file.
    """

    def __init__(self, hub: greenlet.greenlet) -> None:
        self._hub = hub

    def switch(self) -> Any:
        """Run the event loop until it switches back to the hook."""
        return self._hub.switch()


class Loopback(ReplySink):
    """
    Send one call as frames from a gateway to the runner's engine, and its reply back, without a socket.

    What the runner sends is handled in the next iteration of the event loop, as if it had arrived on a socket. Methods must be called in
    callbacks of the event loop. In a task, the engine could not switch greenlets.

    Args:
        runtime: the runtime of the engine.
        info_reply: returns the result of an info request.
    Attributes:
        asked: the info requests of the runner, in order: "body", or the name of a variable.
        reply: a future that gets the reply of the runner, or an error reply if the call fails in the gateway.
        error: why the call failed in the gateway, or None.
    """

    def __init__(self, runtime: Runtime, info_reply: Callable[[Info], bytes | None]) -> None:
        self._loop = runtime.loop
        self._info_reply = info_reply
        self._gateway = Connection(Role.GATEWAY)
        self._runner = Connection(Role.RUNNER)
        self._call_runner = CallRunner(runtime, self, Hub(greenlet.getcurrent()))
        self.asked: list[str] = []
        self.error: MessageTooLarge | None = None
        self.reply: asyncio.Future[Any] = self._loop.create_future()

    def prepare(self, message: PrepareConfReq, prepare: Callable[[PrepareConfReq], int]) -> int:
        """Send a route configuration to the runner, and return its token. `prepare` is called with the message and returns the token."""
        token = prepare(self._at_runner(message))
        self._gateway.receive_data(self._runner.send(PrepareConfResp(token)))
        prepared: Any = self._gateway.next_event()
        return int(prepared.conf_token)

    def call(self, message: Any) -> None:
        """Start a call. `reply` is set when the call is finished."""
        self._call_runner.start(self._at_runner(message))

    def hang_up(self) -> None:
        """Close the connection. A call in progress is cancelled."""
        self._call_runner.close("the test has ended the call")

    def _at_runner(self, message: Any) -> Any:
        self._runner.receive_data(self._gateway.send(message))
        return self._runner.next_event()

    def send(self, message: Any) -> None:
        """Send a message of the runner to the gateway."""
        self.send_all((message,))

    def send_all(self, messages: Sequence[Any]) -> None:
        """Send messages of the runner to the gateway."""
        frames = b"".join([self._runner.send(message) for message in messages])
        # They are handled in a callback, because this runs in the greenlet of the call or in a task.
        self._loop.call_soon(self._at_gateway, frames)

    def _at_gateway(self, frames: bytes) -> None:
        try:
            self._gateway.receive_data(frames)
            while (message := self._gateway.next_event()) is not NEED_DATA:
                if isinstance(message, ExtraInfoReq):
                    self.asked.append(message.info.name if isinstance(message.info, Var) else "body")
                    reply: Any = self._at_runner(ExtraInfoResp(self._info_reply(message.info)))
                    self._call_runner.receive_info(reply.result)
                else:
                    self._settle(message)
        except MessageTooLarge as error:  # an info reply: a frame can't contain a body of this length (gateway contract, 6)
            self.error = error
            self._settle(ErrResp(error.err_code))
        except Exception as error:  # a mistake of the test, such as a variable that is not text
            self.broken(error)

    def _settle(self, reply: Any) -> None:
        if not self.reply.done():  # a cancelled test no longer waits for it
            self.reply.set_result(reply)

    def give_up(self, reason: str) -> None:
        """End the call with an error, because the runner could not reply to it."""
        self.broken(RuntimeError(reason))

    def broken(self, error: Exception) -> None:
        """End the call with an error."""
        if not self.reply.done():
            self.reply.set_exception(error)
