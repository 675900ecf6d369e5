# SPDX-License-Identifier: Apache-2.0
"""
How a call waits: for info replies, a task or a thread, until its deadline. `engine.py` describes what a call does in between.

There are two ways to wait:

- A plain hook waits in the middle, for example in `request.read()`, in the greenlet of its connection (`greenlets.py`).
- Everything else (an `async def` hook, a hook in a thread, a `setup`, the build of a chain) needs no greenlet. The call records what it
  waits for and returns to the event loop, which continues it with `advance`.
"""

import asyncio
import contextvars
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from apisix.runner import primitives
from apisix.runner.call.blocking import places
from apisix.runner.call.greenlets import CallGreenlet
from apisix.runner.call.info_channel import InfoChannel, InfoRequests
from apisix.runner.call.outcomes import acapture, capture, start_task, unwrap
from apisix.runner.call.resumable import Resumable
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import Job, ThreadPool
from apisix.runner.errors import CallCancelled, DeadlineExceeded, InfoUnavailable, Overloaded, RunnerError, WrongContext
from apisix.runner.http.info_requests import unavailable
from apisix.runner.http.metadata import Metadata
from apisix.runner.plugin.forked import end_forked
from apisix.runner.wire.call_messages import CallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ExtraInfoReq

RECEIVED: Final = 0
"""The call has been received, and nothing has run yet."""
RUNNING: Final = 1
"""A hook runs, or the engine prepares a hook or encodes the reply."""
SUSPENDED: Final = 2
"""The call waits for info replies, a task or a thread."""
NEEDS_GREENLET: Final = 3
"""The next step may wait in the middle, so it has to run in the greenlet of the connection."""
FINISHED: Final = 4
"""The reply is final. No code of the call can run or wait any more."""

RECHECK_S: Final = 0.1
"""If a deadline is postponed, the least time until it is checked again, in seconds."""


class WaitingCall(Resumable):
    """
    The base of a call: its state, and its methods for waiting and for being resumed.

    Only the object that the call waits for now can resume it. After the call has failed (a deadline has passed, the gateway has hung up, or
    too many calls wait), each attempt to wait raises the same error.

    Attributes:
        state: RECEIVED, RUNNING, SUSPENDED, NEEDS_GREENLET or FINISHED. `engine.py` shows the transitions.
        id: the number that the gateway gave the call.
        message: the message that the gateway sent.
        context: the context variables that the plugins of this call see, None if the call is finished.
        route_key: the key of its route configuration. None if the gateway is old and sends no key, or if the chain is not yet acquired.
        plugin: the name of the plugin that runs, None between two plugins.
        began_s: when the call was received, as `primitives.now_s()` returned it.
        suspended_s: for how long hooks have been suspended in the greenlet, in seconds.
    """

    __slots__ = (
        "_channel",
        "_counted",
        "_failure",
        "_failure_raised",
        "_greenlet",
        "_in_greenlet",
        "_info_s",
        "_info_since_s",
        "_job",
        "_open_info_requests",
        "_runtime",
        "_thread_wakeup",
        "_waits_for",
        "began_s",
        "context",
        "id",
        "message",
        "plugin",
        "route_key",
        "state",
        "suspended_s",
    )

    state: int
    id: int
    message: CallReq
    context: contextvars.Context | None
    route_key: str | None
    plugin: str | None
    began_s: float
    suspended_s: float
    _runtime: Runtime
    _greenlet: CallGreenlet
    _channel: InfoChannel
    _counted: bool
    _failure: RunnerError | None
    _failure_raised: bool
    _waits_for: object
    _in_greenlet: bool
    _job: Job | None
    _thread_wakeup: threading.Event | None
    _open_info_requests: int
    _info_since_s: float
    _info_s: float

    def begin(
        self, message: CallReq, context: contextvars.Context, runtime: Runtime, call_greenlet: CallGreenlet, channel: InfoChannel
    ) -> None:
        """Set the initial state. Used instead of `__init__`, because calling a C class is more expensive."""
        self.state = RECEIVED
        self.id = message.id
        self.message = message
        self.context = context
        self.route_key = self.plugin = None
        self.began_s = primitives.now_s()
        self._runtime = runtime
        self._greenlet = call_greenlet
        self._channel = channel
        self._counted = self._failure_raised = self._in_greenlet = False
        self._failure = self._waits_for = self._job = self._thread_wakeup = None
        self._open_info_requests = 0
        self.suspended_s = self._info_since_s = self._info_s = 0.0

    # What a subclass implements.

    @abstractmethod
    def run(self) -> None:
        """Run the next steps, in the call's context, until the call is finished or has to wait. Raises nothing."""

    @abstractmethod
    def advance(self) -> None:
        """Same as `run`, but called in the hub, and outside of the context."""

    @abstractmethod
    def place_outside(self) -> str | None:
        """Return where the call is if no code of a plugin waits in this process: for its chain, or for another process. Otherwise, None."""

    def run_in_context(self) -> None:
        """Enter the call's context and run the next steps. In the greenlet the context must be entered too, because a switch saves it."""
        context = self.context
        assert context is not None  # noqa: S101  # for the type checker: only a finished call has none
        if primitives.CAN_ENTER:
            primitives.enter_context(context)
            try:
                self.run()
            finally:
                primitives.leave_context(context)
        else:
            context.run(self.run)

    # Waiting in a hook, through its request or response.

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Send info requests, wait until all replies have arrived, and return the results. For plain hooks.

        Raises:
            WrongContext: the caller runs neither in the hook's greenlet nor in the hook's thread.
            InfoUnavailable: the gateway is too old for info requests.
            DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait, or cannot wait any longer.
        """
        self._refuse_old_gateway(requests)
        if self._greenlet.is_current():
            self.check()
            sent = self._send(requests, None)
            self._wait_in_greenlet(sent)
            return sent.replies
        if self._job is not None and self._job.thread_id == threading.get_ident():
            return self._request_info_from_thread(requests)
        raise WrongContext("only the hook's own greenlet or thread can do that")

    async def arequest_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Same as `request_info`, but for coroutines.

        Raises: the same errors. WrongContext: the caller does not run on the worker's event loop.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._runtime.loop:
            raise WrongContext("an info request can only be sent from the worker's event loop")
        self._refuse_old_gateway(requests)
        self.check()
        received: asyncio.Future[None] = loop.create_future()
        sent = self._send(requests, lambda: None if received.done() else received.set_result(None))
        await received
        return sent.replies

    def _request_info_from_thread(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        wakeup = self._thread_wakeup = threading.Event()
        sent: list[InfoRequests | RunnerError] = []

        def send() -> None:
            try:
                self.check()
                sent.append(self._send(requests, wakeup.set))
            except RunnerError as error:
                sent.append(error)
                wakeup.set()

        self._runtime.loop.call_soon_threadsafe(send)
        wakeup.wait()
        self.check()
        if isinstance(sent[0], RunnerError):
            raise sent[0]
        return sent[0].replies

    def offload(self, work: Callable[[], Any]) -> Any:
        """
        Run `work` in a thread, so that it does not block the event loop, and return its result or raise what it raised.

        All calls of the worker share this thread, so that at most one such thread competes with the event loop for the interpreter.

        Raises:
            WrongContext: the caller is a coroutine on the event loop.
            DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait, or cannot wait any longer.
        """
        if asyncio._get_running_loop() is not self._runtime.loop:
            return self._runtime.body_threads.run_blocking(work)
        if not self._greenlet.is_current():
            raise WrongContext("only the hook's own greenlet or thread can do that")
        job = self._submit(lambda _: work(), None, self._runtime.body_threads)
        try:
            self._wait_in_greenlet(job)
        except RunnerError:
            job.abandon()
            raise
        finally:
            self._job = None
        return unwrap(job.outcome)

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        """Same as `offload`, but for coroutines. If the coroutine is cancelled, the work is abandoned."""
        threads = self._runtime.body_threads
        if asyncio.get_running_loop() is not self._runtime.loop:
            return threads.run_blocking(work)
        job, done = threads.start(work)
        try:
            await done
        except asyncio.CancelledError:
            job.abandon()
            raise
        return unwrap(job.outcome)

    def open_metadata(self, request_id: str) -> Metadata:
        """
        Return the metadata of a client's request.

        Raises: WrongContext: this is a child process. DeadlineExceeded, CallCancelled: the call has failed or is finished.
        """
        if self._runtime.forked:
            raise WrongContext("a plugin has forked this process, and only the worker itself can use metadata")
        self.check()
        return Metadata(self._runtime.metadata_store, request_id, self)

    def _refuse_old_gateway(self, requests: Sequence[ExtraInfoReq]) -> None:
        if self._runtime.forked:
            raise WrongContext("a plugin has forked this process, and only the worker itself can send info requests")
        # A gateway that sends no key does not support info requests, and would end the call. Source: gateway contract, 10.
        if self.route_key is None and self.state != FINISHED:
            raise InfoUnavailable(unavailable(requests[0].info, in_response=type(self.message) is HTTPRespCallReq))

    def _send(self, requests: Sequence[ExtraInfoReq], done: Callable[[], object] | None) -> InfoRequests:
        sent = InfoRequests(self, requests, done)
        if not self._open_info_requests:
            self._info_since_s = primitives.now_s()
        self._open_info_requests += 1
        self._runtime.asks += len(requests)
        self._channel.send(sent)
        return sent

    def info_received(self, requests: Any) -> None:
        """Called when all replies to info requests that were sent together have arrived. Resumes the code that waits for them."""
        self._open_info_requests -= 1
        if not self._open_info_requests:
            self._info_s += primitives.now_s() - self._info_since_s
        sent: InfoRequests = requests
        if sent.done is None:
            self.wake(sent)
        else:
            sent.done()

    # Waiting in the engine.

    def start_task(self, awaitable: Any) -> "asyncio.Task[Any]":
        """
        Start a task that awaits what a plugin returned. On Python 3.12 and later it runs here, up to its first wait.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait, or cannot wait any longer.
        """
        try:
            self.check()
        except RunnerError:
            if hasattr(awaitable, "close"):  # otherwise Python warns that the plugin's coroutine was never awaited
                awaitable.close()
            raise
        return start_task(acapture(awaitable), self._runtime.loop, self.plugin)

    def was_suspended(self) -> bool:
        """Return True if the call has waited for something."""
        return self._counted

    def suspend_for_task(self, task: "asyncio.Task[Any]") -> None:
        """Suspend the call until a task is done."""
        task.add_done_callback(self.wake)
        self._suspend(task)

    def suspend_for_thread(self, function: Callable[[Any], Any], argument: object) -> Job:
        """
        Run `function(argument)` in a thread of the current plugin, and suspend the call until it has returned.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait, or cannot wait any longer.
        """
        job = self._submit(function, argument, self._runtime.threads.of(self.plugin or ""))
        self._suspend(job)
        return job

    def result_of(self, waited_for: "asyncio.Task[Any] | Job") -> Any:
        """
        Return the result of the task or thread for which the call was suspended, or raise what it raised.

        Raises: DeadlineExceeded, CallCancelled: the call has failed meanwhile. The task is cancelled, or the thread is abandoned.
        """
        self._job = None
        is_thread = isinstance(waited_for, Job)
        if self._failure is not None and not (waited_for.outcome if is_thread else waited_for.done()):  # type: ignore[union-attr]
            if is_thread:
                waited_for.abandon()  # type: ignore[union-attr]
            else:
                waited_for.cancel()  # type: ignore[union-attr]
        if self._failure is not None:
            self._failure_raised = True
            raise self._failure
        outcome = waited_for.outcome if is_thread else [waited_for.result()]  # type: ignore[union-attr]
        del waited_for
        return unwrap(outcome)

    def _submit(self, function: Callable[[Any], Any], argument: object, pool: ThreadPool) -> Job:
        self.check()
        if 2 * pool.waiting > self._runtime.max_in_flight:
            # The other half is for calls of other plugins.
            raise Overloaded(f"{pool.waiting} calls already wait for a thread of {self.plugin}, half of what max_in_flight allows")
        context = contextvars.copy_context()

        def work() -> None:
            job.outcome.append(capture(lambda: context.run(function, argument)))
            if self._runtime.forked:
                end_forked(job.outcome[0][1])
            with suppress(RuntimeError):  # the loop has closed: the worker is gone
                self._runtime.loop.call_soon_threadsafe(self.wake, job)

        job = self._job = Job(work)
        try:
            pool.submit(job)
        except RunnerError:
            self._job = None
            raise
        return job

    # Failing, suspending and resuming.

    def check(self) -> None:
        """
        Raise an error if the call cannot wait.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: it cannot. If the call has already failed, the same error is raised again.
        """
        if self.state == FINISHED:
            raise CallCancelled("the call is finished, so it can't wait or send info requests any more")
        if self._failure is None and not self._counted and self._runtime.in_flight >= self._runtime.max_in_flight:
            self._failure = Overloaded(f"{self._runtime.in_flight} calls already wait, and max_in_flight does not allow more")
        if self._failure is not None:
            self._failure_raised = True
            raise self._failure

    def fail(self, error: RunnerError) -> None:
        """Let the call fail with `error`, which is raised where the call waits now, and at each later attempt to wait."""
        if self._failure is None and self.state != FINISHED:
            self._failure = error
            if self._thread_wakeup is not None:
                self._thread_wakeup.set()
            if self._waits_for is not None:
                self.wake(self._waits_for)

    def _suspend(self, waits_for: object) -> None:
        if not self._counted:
            self._counted = True
            self._runtime.in_flight += 1
            self._runtime.deadlines.add(self, self.began_s + self._runtime.first_look_s)
        self.state = SUSPENDED
        self._waits_for = waits_for

    def _wait_in_greenlet(self, waits_for: object) -> None:
        self._suspend(waits_for)
        self._runtime.blocking_detector.running = None  # other calls run now
        self._in_greenlet = True
        suspended_at_s = primitives.now_s()
        self._greenlet.wait()
        self.suspended_s += primitives.now_s() - suspended_at_s
        self._in_greenlet = False
        self.state = RUNNING
        if self._failure is not None:
            self._failure_raised = True
            raise self._failure

    def wake(self, waits_for: object) -> None:
        """Resume the call if it waits for this object now. A task or thread that it no longer waits for has no effect."""
        if self._waits_for is waits_for:
            self._waits_for = None
            del waits_for  # it refers to the exception of a failed hook, whose traceback refers to this frame
            if self._in_greenlet:
                self._greenlet.resume()
            else:
                self.advance()

    def stop_waiting(self) -> None:
        """Called when the call is finished. It is no longer counted as waiting."""
        self.state = FINISHED
        self.context = self._failure = None  # the traceback of the failure refers to the call
        if self._counted:
            self._runtime.in_flight -= 1
            self._runtime.deadlines.discard(self)

    # Deadlines and reports.

    def expire(self) -> None:
        """
        Called when the deadline may have passed. Fails the call, or sets its next deadline.

        Time in which info requests have no reply yet does not count for `plugin_timeout`, because the gateway may be waiting for a client
        that uploads slowly.
        """
        runtime = self._runtime
        now_s = primitives.now_s()
        open_s = now_s - self._info_since_s if self._open_info_requests else 0.0
        left_s = runtime.plugin_timeout_s - (now_s - self.began_s - self._info_s - open_s)
        info_left_s = runtime.info_timeout_s - open_s
        if info_left_s <= 0:
            self.fail(
                DeadlineExceeded(
                    f"the gateway did not answer an info request within info_timeout, {runtime.info_timeout_s:g} s. It may be "
                    f"waiting for a client that sends its body slowly; the plugin waits in {self.place()}"
                )
            )
        elif left_s <= 0:
            text = f"the call took longer than plugin_timeout, {runtime.plugin_timeout_s:g} s; it was in {self.place()}"
            self.fail(DeadlineExceeded(text))
        else:
            runtime.deadlines.add(self, now_s + max(RECHECK_S, min(left_s, info_left_s)))

    @property
    def waits_for_gateway(self) -> bool:
        """True if an info request of the call has no reply yet."""
        return self._open_info_requests > 0

    def place(self) -> str:
        """Return the line of a plugin in which the call waits, for messages. Must be called in the hub."""
        waits_for = self._waits_for
        found = self.place_outside()
        if found is None and isinstance(waits_for, asyncio.Task):
            found = places.of_task(waits_for)
        elif found is None and isinstance(waits_for, Job):
            found = places.of_thread(waits_for.thread_id) if waits_for.running else "the queue for a thread"
        elif found is None and waits_for is not None:
            found = places.of_frame(self._greenlet.frame())
        return found or "an unknown place"
