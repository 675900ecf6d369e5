# SPDX-License-Identifier: Apache-2.0
"""
How a call waits: for info replies, a task or a thread, until its deadline. `engine.py` says what a call does in between.

There are two ways to wait:

- A plain hook waits in the middle, for example in `request.read()`. It runs in the greenlet of its connection, which switches to the
  *hub*, the greenlet of the event loop, and is switched back to when the info reply is there. No other module uses greenlets.
- Everything else (an `async def` hook, a hook in a thread, a `setup`, the build of a chain) needs no greenlet. The call notes what it waits
  for and returns to the event loop, which continues it with `advance`.

What must be kept in mind about greenlets:

- A switch to the hub from inside a task would block the event loop forever, because a task can run on the stack of a greenlet.
- A switch from another thread is an error.
- An exception that leaves a greenlet is raised in the hub. `WaitingCall.run` therefore raises nothing, GreenletExit included.
- A new greenlet starts with an empty context, so each call enters its own.
"""

import asyncio
import contextvars
import sys
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Protocol

import greenlet

from apisix.runner import primitives
from apisix.runner.call.blocking import places
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import Job, ThreadPool
from apisix.runner.errors import CallCancelled, DeadlineExceeded, InfoUnavailable, Overloaded, RunnerError, WrongContext
from apisix.runner.http.info_requests import unavailable
from apisix.runner.plugin.forked import EndingInChild, end_forked
from apisix.runner.wire.call_messages import CallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ExtraInfoReq

RECEIVED: Final = 0
"""The call has been received, and nothing has run yet."""
RUNNING: Final = 1
"""A hook runs, or the engine prepares one or encodes the reply."""
SUSPENDED: Final = 2
"""The call waits for info replies, a task or a thread."""
NEEDS_GREENLET: Final = 3
"""What comes next may wait in the middle, so it has to run in the greenlet of the connection."""
FINISHED: Final = 4
"""The reply is decided. Nothing of the call can run or wait any more."""

RECHECK_S: Final = 0.1
"""If a deadline is put off, the least number of seconds until it is checked again."""


class Hub(Protocol):
    """The greenlet of the event loop. A greenlet that has to wait switches to it."""

    def switch(self) -> Any:
        """Let the event loop run. Returns when something switches back."""


class CallGreenlet:
    """
    The greenlet of one connection, for calls whose hooks may wait in the middle.

    Starting a greenlet is more expensive than switching to one, so it is started by the first call that needs it, and kept. `run`, `resume`
    and `close` must be called in the hub, `wait` in the greenlet.

    A greenlet's stack lies below the stack of the hub at the moment when it is started, and each switch copies what has overlapped since
    then. Most switches come from a socket that is ready, deep in the stack of the event loop. So a greenlet that was started by another
    callback, for a call that has been suspended before, is not kept.

    Attributes:
        active: True while a call runs in the greenlet or is suspended there.
    """

    __slots__ = ("_closed", "_greenlet", "_hub", "active")

    def __init__(self, hub: Hub | None = None) -> None:
        self._hub: Hub = greenlet.getcurrent() if hub is None else hub
        self._greenlet: greenlet.greenlet | None = None
        self._closed = False
        self.active = False

    def run(self, call: "WaitingCall") -> None:
        """Continue a call in the greenlet. Returns when it is finished or has to wait."""
        if self._greenlet is None:
            self._greenlet = greenlet.greenlet(self._serve)
        self._greenlet.switch(call)

    def wait(self) -> None:
        """Let the event loop run, until `resume` is called."""
        self._hub.switch()

    def resume(self) -> None:
        """Return to the call that waits in the greenlet. Returns when it is finished or has to wait again."""
        if self._greenlet is not None:
            self._greenlet.switch()

    def is_current(self) -> bool:
        """Return True if the caller can wait here: it runs in the greenlet, and not in a task that was started on its stack."""
        return greenlet.getcurrent() is self._greenlet and (not EAGER or asyncio.current_task() is None)

    def frame(self) -> FrameType | None:
        """Return the Python frame in which the greenlet waits, None if there is none."""
        return None if self._greenlet is None else self._greenlet.gr_frame

    def close(self) -> None:
        """End the greenlet: at once if it is between two calls, else after the call that it runs."""
        self._closed = True
        if self._greenlet is not None and not self.active:
            self._greenlet.switch(None)

    def _serve(self, call: "WaitingCall | None") -> None:
        is_kept = call is not None and not call.was_suspended()
        while call is not None:
            self.active = True
            call.run_in_context()
            self.active = False
            call = None  # while the greenlet waits, it must not keep the last call alive
            if is_kept and not self._closed:
                call = self._hub.switch()
        self._greenlet = None


class InfoRequests:
    """
    Info requests of a call that are sent together.

    Attributes:
        call: the call.
        requests: the messages.
        replies: the results that the gateway has sent so far, in the order of the requests.
    """

    __slots__ = ("_done", "call", "replies", "requests")

    def __init__(self, call: "WaitingCall", requests: Sequence[ExtraInfoReq], done: Callable[[], object] | None) -> None:
        self.call = call
        self.requests = requests
        self.replies: list[bytes | None] = []
        self._done = done

    def finish(self) -> None:
        """Called when all replies are there. Resumes whatever waits for them."""
        self.call.info_received()
        if self._done is None:
            self.call.wake(self)
        else:
            self._done()


class InfoChannel:
    """The info requests of one connection. The gateway answers them in the order in which they are sent."""

    __slots__ = ("_open", "_sink")

    def __init__(self, sink: ReplySink) -> None:
        self._sink = sink
        self._open: deque[InfoRequests] = deque()

    def send(self, requests: InfoRequests) -> None:
        """Send info requests, in one write."""
        self._sink.send_all(requests.requests)
        self._open.append(requests)

    def receive(self, result: bytes | None) -> None:
        """Take the reply to the oldest open request. If its call is over already, the reply has no effect."""
        requests: InfoRequests = self._open[0]
        requests.replies.append(result)
        if len(requests.replies) == len(requests.requests):
            self._open.popleft()
            requests.finish()

    def oldest(self) -> ExtraInfoReq | None:
        """Return the oldest request without a reply, None if there is none."""
        return self._open[0].requests[len(self._open[0].replies)] if self._open else None

    def clear(self) -> None:
        """Forget all open requests, and the replies to them that have arrived: these can be bodies."""
        self._open.clear()


class WaitingCall:
    """
    The base of a call: its state, and all that is needed to wait and to be resumed.

    Only what the call waits for now can resume it. Once the call has failed (a deadline has passed, the gateway hung up, too many calls
    wait), each attempt to wait raises the same error.

    Attributes:
        state: RECEIVED, RUNNING, SUSPENDED, NEEDS_GREENLET or FINISHED. `engine.py` has a picture of the transitions.
        id: the gateway's number of the call.
        message: the message that the gateway sent.
        context: the context variables that the plugins of this call see, None once it is finished.
        route_key: the key of its configuration, None from an old gateway or before the chain is known.
        plugin: the name of the plugin that runs, None between two plugins.
        began_s: when it was received, a time of the clock.
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

    # What a subclass does.

    @abstractmethod
    def run(self) -> None:
        """Run what comes next, in the call's context, until the call is finished or has to wait. Raises nothing."""

    @abstractmethod
    def advance(self) -> None:
        """Same as `run`, but called in the hub, outside of the context."""

    @abstractmethod
    def place_before_hooks(self) -> str | None:
        """Return where the call is while it waits for its chain, None if it has one."""

    def run_in_context(self) -> None:
        """Run what comes next, here. In the greenlet it must be entered in the greenlet itself, so that a switch saves and restores it."""
        context = self.context
        assert context is not None  # noqa: S101  for the type checker: a call that is not finished has one
        if primitives.CAN_ENTER:
            primitives.enter_context(context)
            try:
                self.run()
            finally:
                primitives.leave_context(context)
        else:
            context.run(self.run)

    # What hooks wait for, through their request or response.

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Send info requests and return the results once all are there. For plain hooks.

        Raises:
            WrongContext: the caller runs neither in the hook's own greenlet nor in its own thread.
            InfoUnavailable: the gateway is too old for info requests.
            DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait (any longer).
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
        Same as `request_info`, but for coroutines on the worker's event loop.

        Raises: as `request_info`.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._runtime.loop:
            raise WrongContext("the gateway can be asked on the worker's own loop only")
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

        All calls of the worker share this thread, so that only one such work competes with the event loop for the interpreter.

        Raises:
            WrongContext: the caller is a coroutine on the event loop.
            DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait (any longer).
        """
        if asyncio._get_running_loop() is not self._runtime.loop:
            return _run_in(self._runtime.body_threads, work)
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
        return _result_in(job.outcome)

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        """Same as `offload`, but for coroutines. If the coroutine is cancelled, the work is abandoned."""
        loop = asyncio.get_running_loop()
        if loop is not self._runtime.loop:
            return _run_in(self._runtime.body_threads, work)
        done: asyncio.Future[None] = loop.create_future()
        outcome: list[tuple[Any, BaseException | None]] = []

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def run() -> None:
            outcome.append(_outcome_of(work))
            with suppress(RuntimeError):  # the loop has closed: the worker is gone
                loop.call_soon_threadsafe(settle)

        job = Job(run)
        self._runtime.body_threads.submit(job)
        try:
            await done
        except asyncio.CancelledError:
            job.abandon()
            raise
        return _result_in(outcome)

    def _refuse_old_gateway(self, requests: Sequence[ExtraInfoReq]) -> None:
        if self._runtime.forked:
            raise WrongContext("this process was forked by a plugin: only the worker itself can ask the gateway")
        # A gateway that sends no key answers no info requests: it would end the call. Source: gateway contract, 10.
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

    def info_received(self) -> None:
        """Called when info requests that were sent together have all their replies."""
        self._open_info_requests -= 1
        if not self._open_info_requests:
            self._info_s += primitives.now_s() - self._info_since_s

    # What the engine waits for.

    def start_task(self, awaitable: Any) -> "asyncio.Task[Any]":
        """
        Start a task for something that a plugin returned. On Python 3.12 and later it runs here, up to its first wait.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait (any longer).
        """
        try:
            self.check()
        except RunnerError:
            if hasattr(awaitable, "close"):  # or Python would warn that the plugin's coroutine was never awaited
                awaitable.close()
            raise
        return start_task(result_or_error(awaitable), self._runtime.loop, self.plugin)

    def was_suspended(self) -> bool:
        """Return True if the call has waited for something."""
        return self._counted

    def suspend_for_task(self, task: "asyncio.Task[Any]") -> None:
        """Let `advance` continue the call when a task is done."""
        task.add_done_callback(self.wake)
        self._suspend(task)

    def suspend_for_thread(self, function: Callable[[Any], Any], argument: object) -> Job:
        """
        Run `function(argument)` in a thread of the plugin that runs, and let `advance` continue the call when it is done.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: the call cannot wait (any longer).
        """
        job = self._submit(function, argument, self._runtime.threads.of(self.plugin or ""))
        self._suspend(job)
        return job

    def result_of(self, waited_for: "asyncio.Task[Any] | Job") -> Any:
        """
        Return the result of a task or a thread for which the call was suspended, or raise what it raised.

        Raises: DeadlineExceeded, CallCancelled: the call has failed meanwhile. The task is cancelled, the thread abandoned.
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
        return _result_in(outcome)

    def _submit(self, function: Callable[[Any], Any], argument: object, pool: ThreadPool) -> Job:
        self.check()
        if 2 * pool.waiting > self._runtime.max_in_flight:
            # Calls of other plugins need room to wait too.
            raise Overloaded(f"{pool.waiting} calls wait for a thread of {self.plugin} already, half of what max_in_flight allows")
        context = contextvars.copy_context()

        def work() -> None:
            job.outcome.append(_outcome_of(lambda: context.run(function, argument)))
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
        Make sure that the call can wait.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: it cannot. If the call has failed, this is the error that it failed with.
        """
        if self.state == FINISHED:
            raise CallCancelled("the call is over: what it was about can't be asked any more")
        if self._failure is None and not self._counted and self._runtime.in_flight >= self._runtime.max_in_flight:
            self._failure = Overloaded(f"{self._runtime.in_flight} calls wait already, which is what max_in_flight allows")
        if self._failure is not None:
            self._failure_raised = True
            raise self._failure

    def fail(self, error: RunnerError) -> None:
        """Let the call fail with `error`: what it waits for now raises it, and so does every later wait."""
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
        """Resume the call if it waits for this now. Tasks and threads that it no longer waits for can end later."""
        if self._waits_for is waits_for:
            self._waits_for = None
            del waits_for  # it has the exception of a hook that failed, whose traceback refers to this frame
            if self._in_greenlet:
                self._greenlet.resume()
            else:
                self.advance()

    def stop_waiting(self) -> None:
        """Called when the call is finished: it no longer counts as one that waits."""
        self.state = FINISHED
        self.context = self._failure = None  # the failure refers to the call by its traceback
        if self._counted:
            self._runtime.in_flight -= 1
            self._runtime.deadlines.discard(self)

    # Deadlines and reports.

    def expire(self) -> None:
        """
        Called when the time of the plugins, or of the gateway, may be over: fail, or set the next deadline.

        Time in which the gateway has info requests to answer does not count as the plugins': it may wait for a client's slow upload.
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
        """True if info requests of the call have no reply yet."""
        return self._open_info_requests > 0

    def place(self) -> str:
        """Return in which line of a plugin the call waits, for messages. Must be called in the hub."""
        waits_for = self._waits_for
        found = self.place_before_hooks()
        if found is None and isinstance(waits_for, asyncio.Task):
            found = places.of_task(waits_for)
        elif found is None and isinstance(waits_for, Job):
            found = places.of_thread(waits_for.thread_id) if waits_for.running else "the queue for a thread"
        elif found is None and waits_for is not None:
            found = places.of_frame(self._greenlet.frame())
        return found or "a place that is not known"


def _outcome_of(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return the result of a function, or the exception that it raised."""
    try:
        return work(), None
    except BaseException as error:  # it is raised again where the call waits
        return None, error


def _result_in(outcome: list[tuple[Any, BaseException | None]]) -> Any:
    """
    Remove the only outcome from the list, and return its result or raise its exception.

    The frames that an exception passes through must not refer to it. Otherwise both stay until the garbage collector runs, and with
    them all variables of the hook that failed.
    """
    result, error = outcome.pop()
    if error is None:
        return result
    try:
        raise error
    finally:
        del error


def _run_in(pool: ThreadPool, work: Callable[[], Any]) -> Any:
    """Run a function in a thread of a pool, and block this thread until it is done."""
    done = threading.Event()
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        outcome.append(_outcome_of(work))
        done.set()

    pool.submit(Job(run))
    done.wait()
    return _result_in(outcome)


async def result_or_error(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Await and return the result or the exception. A task that raised SystemExit would end the event loop."""
    try:
        return await EndingInChild(awaitable), None
    except BaseException as error:  # it is raised again where the call waits
        return None, error


EAGER: Final = sys.version_info >= (3, 12)
"""True if a task can start at once, on the stack of the code that creates it."""

if sys.version_info >= (3, 12):

    def start_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, name: str | None) -> "asyncio.Task[Any]":
        """Create a task and run it up to its first wait. A task that never waits is done then."""
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)

else:

    def start_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, name: str | None) -> "asyncio.Task[Any]":
        """Create a task. It runs in the next iteration of the event loop, because Python before 3.12 has no eager start."""
        return loop.create_task(coroutine, name=name)
