# SPDX-License-Identifier: Apache-2.0
"""One call: what it waits for, how long, and who may ask the gateway on its behalf."""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import greenlet

from apisix.runner import primitives
from apisix.runner.call.blocking import places
from apisix.runner.call.chain_cache import CachedChain
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import Job, ThreadPool
from apisix.runner.errors import CallCancelled, DeadlineExceeded, InfoUnavailable, Overloaded, RunnerError, WrongContext
from apisix.runner.http.releases import unavailable
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.forked import EndingInChild, end_forked
from apisix.runner.wire.call_messages import CallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ExtraInfoReq

if TYPE_CHECKING:
    from apisix.runner.call.engine import CallRunner


LOOK_AGAIN_S: Final = 0.1
"""How long a deadline that was put off is put off at least, in seconds."""


class Questions:
    """Questions of a call that were sent together. `answers` grows as they come, in order; `done` is called with the last."""

    __slots__ = ("answers", "call", "done", "missing", "sent")

    def __init__(self, call: "Call", sent: Sequence[ExtraInfoReq], done: "Callable[[Questions], None]") -> None:
        self.call = call
        self.sent = sent
        self.missing = len(sent)
        self.done = done
        self.answers: list[bytes | None] = []


class Call:
    """
    One request or response on its way through the plugins.

    It runs in the greenlet of its runner, or without one up to the first plugin that might have to wait. `request_info`,
    `wait_for` and `run_in_thread` suspend that greenlet and let the loop run; whatever else happens meanwhile, exactly one of
    them resumes it. Once the call has failed (its deadline passed, the gateway hung up, there was no room), each attempt to
    wait again raises the same error.

    Attributes:
        id: the gateway's number of the call.
        message: what the gateway sent.
        context: the context variables that the plugins of this call see, None once it is over.
        prepared: its chain, once that is known.
        exchange: its request or response, while plugins run.
        position: which plugin of the chain is next.
        pending: the task of that plugin's hook, where it has begun and is still to be waited for.
        route_key: the key of its configuration, None where the gateway is old.
        plugin: the name of the plugin that runs.
        began_s: when it began, a time of the clock.
        suspended_s: for how long it has been suspended, in seconds.
        gave_up: whether a wait was refused. Cleared by who wants to know.
    """

    __slots__ = (
        "_asked_s",
        "_asking_since_s",
        "_call_runner",
        "_counted",
        "_failure",
        "_job",
        "_open_questions",
        "_over",
        "_runtime",
        "_thread_wakeup",
        "_waits_for",
        "began_s",
        "context",
        "exchange",
        "gave_up",
        "id",
        "message",
        "pending",
        "plugin",
        "position",
        "prepared",
        "request_id",
        "route_key",
        "suspended_s",
    )

    id: int
    message: CallReq
    context: contextvars.Context | None
    prepared: CachedChain | None
    exchange: Request | Response | None
    position: int
    pending: "asyncio.Task[Any] | None"
    route_key: str | None
    plugin: str | None
    request_id: str | None
    began_s: float
    suspended_s: float
    gave_up: bool
    _call_runner: "CallRunner"
    _runtime: Runtime
    _counted: bool
    _failure: RunnerError | None
    _job: Job | None
    _thread_wakeup: threading.Event | None
    _waits_for: object
    _over: bool
    _open_questions: int
    _asking_since_s: float
    _asked_s: float

    # What plugins reach through their request or response.

    def request_info(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Ask the gateway and return the answers once all are there.

        Raises:
            WrongContext: this is not the greenlet or the thread in which the call's plugin runs.
            InfoUnavailable: the gateway is too old to answer.
            DeadlineExceeded, CallCancelled, Overloaded: the call can't wait (any longer).
        """
        self._refuse_old_gateway(questions)
        # An eagerly started task may run on the stack of our greenlet, so being in it is not enough. Switching to the
        # hub from inside a task would wedge the loop.
        if greenlet.getcurrent() is self._call_runner.greenlet:
            if not EAGER or asyncio.current_task() is None:
                self.check()
                asked = self._send(questions, self._wake)
                self._suspend(asked)
                return asked.answers
        elif self._job is not None and self._job.thread_id == threading.get_ident():
            return self._ask_from_thread(questions)
        raise WrongContext("only the hook's own greenlet or thread can do that")

    async def arequest_info(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Ask the gateway, from a coroutine on the worker's loop, and return the answers once all are there.

        Raises: as `request_info`.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._runtime.loop:
            raise WrongContext("the gateway can be asked on the worker's own loop only")
        self._refuse_old_gateway(questions)
        self.check()
        answered: asyncio.Future[None] = loop.create_future()
        asked = self._send(questions, lambda _: None if answered.done() else answered.set_result(None))
        await answered
        return asked.answers

    def offload(self, work: Callable[[], Any]) -> Any:
        """
        Return what `work` returns, without holding up the loop: this call waits for a thread that runs it.

        All calls of the worker share that thread, those of blocking plugins too, so only one such work competes with the loop.

        Raises: WrongContext: this is a coroutine on the loop. As `run_in_thread` otherwise.
        """
        if asyncio._get_running_loop() is not self._runtime.loop:
            return self._offload_from_thread(work)
        if greenlet.getcurrent() is self._call_runner.greenlet and (not EAGER or asyncio.current_task() is None):
            return self.run_in_thread(lambda _: work(), None, self._runtime.body_threads)
        raise WrongContext("only the hook's own greenlet or thread can do that")

    def _offload_from_thread(self, work: Callable[[], Any]) -> Any:
        done = threading.Event()
        outcome: list[tuple[Any, BaseException | None]] = []

        def run() -> None:
            try:
                outcome.append((work(), None))
            except BaseException as error:  # it is raised in the thread that waits
                outcome.append((None, error))
            done.set()

        self._runtime.body_threads.submit(Job(run))
        done.wait()
        return _result_in(outcome)

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        """Same as `offload`, but in a coroutine, which waits for the thread. A coroutine that is cancelled abandons it."""
        loop = asyncio.get_running_loop()
        if loop is not self._runtime.loop:
            return self._offload_from_thread(work)
        done: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def run() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = (work(), None)
            except BaseException as error:  # it is raised in the coroutine
                outcome = (None, error)
            with suppress(RuntimeError):  # the loop has closed: the worker is gone
                loop.call_soon_threadsafe(settle, *outcome)

        job = Job(run)
        self._runtime.body_threads.submit(job)
        try:
            return await done
        except asyncio.CancelledError:
            self._runtime.body_threads.abandon(job)
            raise

    def _ask_from_thread(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        wakeup = self._thread_wakeup = threading.Event()
        asked: list[Questions | RunnerError] = []

        def send() -> None:
            try:
                self.check()
                asked.append(self._send(questions, lambda _: wakeup.set()))
            except RunnerError as error:
                asked.append(error)
                wakeup.set()

        self._runtime.loop.call_soon_threadsafe(send)
        wakeup.wait()
        self.check()
        if isinstance(asked[0], RunnerError):
            raise asked[0]
        return asked[0].answers

    def _refuse_old_gateway(self, questions: Sequence[ExtraInfoReq]) -> None:
        if self._runtime.forked:
            raise WrongContext("this process was forked by a plugin: only the worker itself can ask the gateway")
        # A gateway that sends no key answers no info requests: it would end the call. Source: gateway contract, 10.
        if self.route_key is None and not self._over:
            raise InfoUnavailable(unavailable(questions[0].info, in_response=type(self.message) is HTTPRespCallReq))

    def _send(self, questions: Sequence[ExtraInfoReq], done: Callable[[Questions], None]) -> Questions:
        asked = Questions(self, questions, done)
        if not self._open_questions:
            self._asking_since_s = primitives.now_s()
        self._open_questions += 1
        self._runtime.asks += len(questions)
        self._call_runner.ask(asked, questions)
        return asked

    def answered(self, asked: Questions) -> None:
        """Take note that the gateway has answered."""
        self._open_questions -= 1
        if not self._open_questions:
            self._asked_s += primitives.now_s() - self._asking_since_s
        asked.done(asked)

    # How the executor waits.

    def wait_for(self, awaitable: Any) -> Any:
        """Run `awaitable` as a task and return its result or raise what it raised."""
        return self.result_of(self.begin(awaitable))

    def begin(self, awaitable: Any) -> "asyncio.Task[Any]":
        """Run `awaitable` as a task for `result_of`, up to its first wait where Python can do that (3.12 and later)."""
        try:
            self.check()
        except RunnerError:
            if hasattr(awaitable, "close"):  # or Python would warn that the plugin's coroutine was never awaited
                awaitable.close()
            raise
        return start_task(result_or_error(awaitable), self._runtime.loop, self.plugin)

    def result_of(self, task: "asyncio.Task[Any]") -> Any:
        """
        Return the result of a task, once it has one, or raise what it raised.

        A call that fails meanwhile cancels the task and does not wait for it.
        """
        if not task.done():
            try:
                self.check()
                task.add_done_callback(self._wake)
                self._suspend(task)
            except RunnerError:
                task.cancel()
                raise
        outcome = [task.result()]
        del task
        return _result_in(outcome)

    def run_in_thread(self, function: Callable[[Any], Any], argument: object, pool: ThreadPool | None = None) -> Any:
        """
        Run `function(argument)` in a thread of a pool and return its result or raise what it raised.

        A call that fails meanwhile abandons the thread.

        Args: pool: by default that of the plugin that runs.
        """
        self.check()
        if pool is None:
            pool = self._runtime.threads.of(self.plugin or "")
        if 2 * pool.waiting > self._runtime.max_in_flight:
            # Others than this plugin's calls need room to wait too.
            raise Overloaded(f"{pool.waiting} calls wait for a thread of {self.plugin} already, half of what max_in_flight allows")
        context = contextvars.copy_context()
        outcome: list[tuple[Any, BaseException | None]] = []

        def work() -> None:
            try:
                outcome.append((context.run(function, argument), None))
            except BaseException as error:  # the plugin's: it is raised in the greenlet
                outcome.append((None, error))
            if self._runtime.forked:
                end_forked(outcome[0][1])
            try:
                self._runtime.loop.call_soon_threadsafe(self._wake, job)
            except RuntimeError:
                return  # the loop has closed: the worker is gone

        job = self._job = Job(work)
        try:
            pool.submit(job)
            self._suspend(job)
        except RunnerError:
            pool.abandon(job)
            raise
        finally:
            self._job = None
        return _result_in(outcome)

    def check(self) -> None:
        """
        Make sure that the call can wait.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: it can't; the same one as before where it has failed.
        """
        if self._over:
            raise CallCancelled("the call is over: what it was about can't be asked any more")
        if self._failure is None and not self._counted and self._runtime.in_flight >= self._runtime.max_in_flight:
            self._failure = Overloaded(f"{self._runtime.in_flight} calls wait already, which is what max_in_flight allows")
        if self._failure is not None:
            self.gave_up = True
            raise self._failure

    def check_swallowed(self) -> None:
        """
        Make sure that no wait was refused since `gave_up` was last cleared: a plugin may have swallowed the error.

        Raises: DeadlineExceeded, CallCancelled, Overloaded: that error.
        """
        if self.gave_up and self._failure is not None:
            raise self._failure

    def fail(self, error: RunnerError) -> None:
        """End the call with `error`: what it waits for now raises it, and so does every later wait."""
        if self._failure is None and not self._over:
            self._failure = error
            if self._thread_wakeup is not None:
                self._thread_wakeup.set()
            if self._waits_for is not None:
                self._wake(self._waits_for)

    def finish(self) -> None:
        """Say that the reply is decided. From here on the call's accessors raise."""
        self._over = True
        self.exchange = self.context = self._failure = None  # they refer to the call, the failure by its traceback
        if self.prepared is not None:
            self._runtime.chains.release(self.prepared)
        if self._counted:
            self._runtime.in_flight -= 1
            self._runtime.deadlines.discard(self)

    def _suspend(self, waits_for: object) -> None:
        if not self._counted:
            self._counted = True
            self._runtime.in_flight += 1
            self._runtime.deadlines.add(self, self.began_s + self._runtime.first_look_s)
        self._runtime.blocking_detector.running = None  # others run now
        self._waits_for = waits_for
        suspended_at_s = primitives.now_s()
        self._call_runner.hub.switch()
        self.suspended_s += primitives.now_s() - suspended_at_s
        if self._failure is not None:
            self.gave_up = True
            raise self._failure

    def _wake(self, waits_for: object) -> None:
        # Only what the greenlet waits for now may resume it: a task or thread it has given up comes back later.
        if self._waits_for is waits_for:
            self._waits_for = None
            self._call_runner.greenlet.switch()

    def expire(self) -> None:
        """
        Fail if the time of the plugins, or of the gateway, is over; else look again when it is.

        While the gateway is asked, the time of the plugins stands still: it may be waiting for a client's slow upload.
        """
        now_s = primitives.now_s()
        asking_s = now_s - self._asking_since_s if self._open_questions else 0.0
        used_s = now_s - self.began_s - self._asked_s - asking_s
        left_s = self._runtime.plugin_timeout_s - used_s
        asking_left_s = self._runtime.info_timeout_s - asking_s
        if asking_left_s <= 0:
            self.fail(
                DeadlineExceeded(
                    f"the gateway did not answer an info request within info_timeout, {self._runtime.info_timeout_s:g} s. It may be "
                    f"waiting for a client that sends its body slowly; the plugin waits in {self.place()}"
                )
            )
        elif left_s <= 0:
            text = f"the call took longer than plugin_timeout, {self._runtime.plugin_timeout_s:g} s; it was in {self.place()}"
            self.fail(DeadlineExceeded(text))
        else:
            self._runtime.deadlines.add(self, now_s + max(LOOK_AGAIN_S, min(left_s, asking_left_s)))

    @property
    def asks(self) -> bool:
        """Whether the call waits for the gateway."""
        return self._open_questions > 0

    def place(self) -> str:
        """Say in which line of a plugin the call waits. To be called in the hub."""
        waits_for = self._waits_for
        found: str | None = None
        if self.prepared is None:
            message = self.message
            found = self._runtime.chains.place(message.conf_token, isinstance(message, HTTPRespCallReq))
        elif isinstance(waits_for, asyncio.Task):
            found = places.of_task(waits_for)
        elif isinstance(waits_for, Job):
            found = places.of_thread(waits_for.thread_id) if waits_for.running else "the queue for a thread"
        elif waits_for is not None:
            found = places.of_frame(self._call_runner.greenlet.gr_frame)
        return found or "a place that is not known"


def new_call(runner: "CallRunner", runtime: Runtime, message: CallReq, context: contextvars.Context) -> Call:
    """Begin a call. A function, because in C a constructor costs twice as much."""
    self = Call.__new__(Call)
    self._call_runner = runner
    self._runtime = runtime
    self.id = message.id
    self.message = message
    self.context = context
    self.prepared = None
    self.exchange = None
    self.position = 0
    self.pending = None
    self.route_key = None
    self.plugin = None
    self.request_id = None
    self.suspended_s = 0.0
    self.gave_up = False
    self.began_s = primitives.now_s()
    self._counted = False
    self._failure = None
    self._job = None
    self._thread_wakeup = None
    self._waits_for = None
    self._over = False
    self._open_questions = 0
    self._asked_s = 0.0
    return self


def _result_in(outcome: list[tuple[Any, BaseException | None]]) -> Any:
    """
    Take the only outcome out of the list, and return its result or raise its exception.

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


async def result_or_error(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Await and return the result or the exception. A task that let SystemExit out would end the loop."""
    try:
        return await EndingInChild(awaitable), None
    except BaseException as error:  # the plugin's: it is raised in the greenlet
        return None, error


EAGER: Final = sys.version_info >= (3, 12)
"""Whether a task can begin at once, on the stack of whoever makes it."""

if sys.version_info >= (3, 12):

    def start_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, name: str | None) -> "asyncio.Task[Any]":
        """Make a task and run it up to its first wait. One that never waits costs no turn of the loop."""
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)

else:

    def start_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, name: str | None) -> "asyncio.Task[Any]":
        """Make a task, which runs at the next turn of the loop: before Python 3.12 there is no eager start."""
        return loop.create_task(coroutine, name=name)
