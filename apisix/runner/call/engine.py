# SPDX-License-Identifier: Apache-2.0
"""What is said on one connection: its calls, one at a time, in one greenlet that is kept."""

import contextvars
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import greenlet

from apisix.runner import primitives
from apisix.runner.call.call import Call, Questions, new_call
from apisix.runner.call.execution import execute, refuse
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.errors import CallCancelled, LocalProtocolError, RemoteProtocolError
from apisix.runner.http.releases import described, hang_up
from apisix.runner.logging.call_fields import current_call
from apisix.runner.wire.call_messages import CallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq

engine_logger = logging.getLogger("apisix.runner.call.engine")


class CallRunner:
    """
    Run the calls of one connection.

    Each connection has one greenlet, in which its calls run as straight-line code. Starting one costs 11 us, switching
    into a living one some 3 us (design, 9): so it begins with the first call that might have to wait, and is kept. `start`,
    `answer` and `close` must be called from the hub, the greenlet in which the loop runs.

    Args:
        runtime: what all calls of the worker share.
        peer: the gateway.
    """

    __slots__ = ("_asked", "_closed", "_context", "_peer", "_runtime", "call", "greenlet", "hub")

    def __init__(self, runtime: Runtime, peer: ReplySink) -> None:
        self._runtime = runtime
        self._peer = peer
        self._asked: deque[Questions] = deque()
        self._closed = False
        self._context = contextvars.copy_context()
        self.hub = greenlet.getcurrent()
        self.greenlet = greenlet.greenlet(self._serve, self.hub)
        self.call: Call | None = None

    def start(self, message: CallReq) -> None:
        """Run a call. Returns when it is answered, or when it has to wait."""
        # Each call has a context of its own, so that what a plugin sets in one is not seen in the next.
        context = self._context.copy()
        call = self.call = new_call(self, self._runtime, message, context)
        if primitives.CAN_ENTER:
            primitives.enter_context(context)
            try:
                answered = self._run(call, False)
            finally:
                primitives.leave_context(context)
        else:
            answered = context.run(self._run, call, False)
        if not answered:
            self.greenlet.switch(call)

    def receive_info(self, result: bytes | None) -> None:
        """Take the answer to the oldest open question. One that came too late for its call is dropped."""
        asked: Questions = self._asked[0]
        asked.answers.append(result)
        asked.missing -= 1
        if not asked.missing:
            self._asked.popleft()
            asked.call.answered(asked)

    def ask(self, asked: Questions, questions: Sequence[ExtraInfoReq]) -> None:
        """Send questions, back to back. `answer` brings what comes of them to `asked`."""
        self._peer.send_all(questions)
        self._asked.append(asked)

    def log_hang_up(self) -> None:
        """Log it if the gateway hung up on an info request, most likely because it is too old. `close` has to follow."""
        call = self.call
        if call is None or not self._asked:
            return
        asked = self._asked[0]
        info = asked.sent[len(asked.answers)].info
        meaning = hang_up(info, in_response=type(call.message) is HTTPRespCallReq)
        # In a copy of the call's context, so that the line names its route and plugin. The call itself may be inside the original.
        context = cast("contextvars.Context", call.context).copy()
        context.run(engine_logger.warning, "the gateway hung up instead of answering an info request, for %s. %s", described(info), meaning)

    def close(self, reason: str) -> None:
        """End the conversation: a call that runs is cancelled, and nothing more is sent."""
        self._closed = True
        self._asked.clear()  # with the answers that have come, which may be bodies
        if self.call is not None:
            self.call.fail(CallCancelled(reason))
        elif self.greenlet:  # it has begun and not ended: it waits for a call
            self.greenlet.switch(None)

    def _serve(self, call: Call | None) -> None:
        while call is not None:
            # Set from in here: once compiled, the greenlet has no Python frame while it waits, and then gr_context takes it for a
            # running one.
            cast("contextvars.Context", call.context).run(self._run, call, True)
            # An exception that left this greenlet would land in the hub, and a closed one must not wait for more.
            call = None  # while it waits, it keeps nothing of the last call
            if not self._closed:
                call = self.hub.switch()

    def _run(self, call: Call, can_wait: bool) -> bool:
        """
        Run a call to its reply, and send that. Return False, to be called again in the greenlet, if it might have to wait first.

        Args: can_wait: whether this is that greenlet.
        """
        malformed: RemoteProtocolError | None = None
        reply: Any
        try:
            if not can_wait:
                primitives.set_variable(current_call, call)
            reply = execute(call, self._runtime, can_wait)
            if reply is None:
                return False
        except CallCancelled as error:
            engine_logger.debug("a call was cancelled: %s", error)
            reply = None
        except RemoteProtocolError as error:
            malformed = error
            reply = ErrResp(error.err_code)
        except BaseException as error:  # nothing may leave the greenlet, and each call is answered
            engine_logger.exception("a call failed in the runner itself")
            self._runtime.failed(call.id, error)
            reply = refuse(call.message, self._runtime.on_error)
        call.finish()
        self.call = None
        self._runtime.calls += 1
        if reply is None or self._closed:
            return True
        try:
            self._peer.send(reply)
        except BaseException as error:  # as above
            self._refuse_reply(call, error)
        if malformed is not None:
            self._peer.broken(malformed)
        return True

    def _refuse_reply(self, call: Call, error: BaseException) -> None:
        """
        Answer a call whose reply could not be sent, whatever the reason: the gateway would wait for a minute.

        Nothing of it was sent: a reply is a frame before any of it leaves.
        """
        if isinstance(error, LocalProtocolError):
            engine_logger.error("the reply is refused: %s", error)  # too large, or with a value that the schema can't express
        else:
            engine_logger.error("the reply is refused, it can't be encoded", exc_info=error)
        try:
            self._runtime.failed(call.id, error)
            self._peer.send(refuse(call.message, self._runtime.on_error))
        except BaseException:  # nothing may leave the greenlet
            engine_logger.exception("a call could not be answered, its connection is closed")
            self._peer.give_up("a call could not be answered")
