# SPDX-License-Identifier: Apache-2.0
"""A connection between a gateway and a runner whose ends are both in this process."""

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
    The greenlet in which the loop runs, as a plugin's hook switches to it to wait.

    In compiled modules there is no Python frame between a hook and the switch. coverage.py notices that it is in another greenlet
    when a Python function is called or returns: without `switch` it would attribute the next lines of the hook to another file.
    """

    def __init__(self, hub: greenlet.greenlet) -> None:
        self._hub = hub

    def switch(self) -> Any:
        """Let the loop run, and return when something has switched back."""
        return self._hub.switch()


class Loopback(ReplySink):
    """
    Carry one call from a gateway to the runner's engine and back, as frames, without a socket.

    What one end sends, the other handles at the next turn of the loop, as if it had come from a socket. All methods must be called
    in callbacks of the loop: the engine switches greenlets there, which it must not do inside a task.

    Attributes:
        asked: what the runner asked for, in order.
        reply: set to the runner's reply when that has come, and to an error where the gateway itself fails the call.
        failure: why it does, else None.
    """

    def __init__(self, runtime: Runtime, answer: Callable[[Info], bytes | None]) -> None:
        self._loop = runtime.loop
        self._answer = answer
        self._gateway = Connection(Role.GATEWAY)
        self._runner = Connection(Role.RUNNER)
        self._call_runner = CallRunner(runtime, self, Hub(greenlet.getcurrent()))
        self.asked: list[str] = []
        self.failure: MessageTooLarge | None = None
        self.reply: asyncio.Future[Any] = self._loop.create_future()

    def prepare(self, message: PrepareConfReq, prepare: Callable[[PrepareConfReq], int]) -> int:
        """Let the runner make a token of a configuration, and return it."""
        token = prepare(self._at_runner(message))
        self._gateway.receive_data(self._runner.send(PrepareConfResp(token)))
        prepared: Any = self._gateway.next_event()
        return int(prepared.conf_token)

    def call(self, message: Any) -> None:
        """Make a call. `reply` tells when it is over."""
        self._call_runner.start(self._at_runner(message))

    def hang_up(self) -> None:
        """End the connection. A call that still runs is cancelled."""
        self._call_runner.close("the test has ended the call")

    def _at_runner(self, message: Any) -> Any:
        self._runner.receive_data(self._gateway.send(message))
        return self._runner.next_event()

    def send(self, message: Any) -> None:
        """Carry a message of the runner's to the gateway."""
        self.send_all((message,))

    def send_all(self, messages: Sequence[Any]) -> None:
        """Carry several."""
        frames = b"".join([self._runner.send(message) for message in messages])
        # Not at once: this is the call's own greenlet, or a task.
        self._loop.call_soon(self._at_gateway, frames)

    def _at_gateway(self, frames: bytes) -> None:
        try:
            self._gateway.receive_data(frames)
            while (message := self._gateway.next_event()) is not NEED_DATA:
                if isinstance(message, ExtraInfoReq):
                    self.asked.append(message.info.name if isinstance(message.info, Var) else "body")
                    answer: Any = self._at_runner(ExtraInfoResp(self._answer(message.info)))
                    self._call_runner.receive_info(answer.result)
                else:
                    self._settle(message)
        except MessageTooLarge as error:  # the answer to a question: no body of this length can cross (gateway contract, 6)
            self.failure = error
            self._settle(ErrResp(error.err_code))
        except Exception as error:  # a variable that is no text: the test's own fault
            self.broken(error)

    def _settle(self, reply: Any) -> None:
        if not self.reply.done():  # the test may wait no longer
            self.reply.set_result(reply)

    def give_up(self, reason: str) -> None:
        """End the call with an error: the runner could not answer it."""
        self.broken(RuntimeError(reason))

    def broken(self, error: Exception) -> None:
        """End the call with an error, the gateway's or the test's own."""
        if not self.reply.done():
            self.reply.set_exception(error)
