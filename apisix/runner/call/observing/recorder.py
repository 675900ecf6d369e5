# SPDX-License-Identifier: Apache-2.0
"""Record what the plugins of one call do, for the metrics and in the trace of the call."""

from typing import Any

from apisix.runner import primitives
from apisix.runner.call.observing.meter import Meter, outcome_of
from apisix.runner.call.observing.trace import CallTrace
from apisix.runner.call.observing.watching import HookWatch
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.chain.chain import ChainStep


class StepRecorder:
    """
    Records each step of one call.

    Args:
        meter: counts outcomes and durations; None if they are not counted.
        trace: the trace of the call, None if it is not traced.
    """

    __slots__ = ("_began_s", "_mark", "_meter", "_trace", "_watch")

    def __init__(self, meter: Meter | None, trace: CallTrace | None) -> None:
        self._meter = meter
        self._trace = trace
        self._began_s = 0.0
        self._mark: tuple[Any, ...] = ()
        self._watch: HookWatch | None = None

    def begin(self, step: ChainStep, message: Request | Response, before: Request | Response | None) -> None:
        """Called before each step. Args: before: a copy of `message`, needed if the call is traced."""
        self._began_s = primitives.now_s()
        if self._trace is not None and before is not None:
            self._trace.step_begins(step, message, before, self._began_s)
        self._mark = message.mark()  # after the listeners: what they edit is not an edit of the plugin

    def hook_begins(self, step: ChainStep) -> None:
        """Called before the hook of a step is called, and in the same context."""
        if self._trace is not None and self._trace.watches_hooks:
            self._watch = HookWatch(step.hook)

    def check(self) -> None:
        """Raise CoroutineNeverAwaited if the hook of the current step did not await a coroutine that it created."""
        if self._watch is not None:
            self._watch.check()

    def end(
        self,
        step: ChainStep,
        message: Any,
        reply: Reply | None,
        failure: BaseException | None,
    ) -> None:
        """
        Called after each step.

        Args:
            message: the Request or Response.
            reply: the plugin's Reply, None if there is none.
            failure: the error of the step, None if it did not fail.
        """
        took_s = primitives.now_s() - self._began_s
        if self._meter is not None:
            if failure is not None:
                outcome = outcome_of(failure)
            else:
                outcome = "stop" if reply is not None else "continue" if message.mark() == self._mark else "rewrite"
            self._meter.count(step.name, message.phase, outcome, took_s)
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        if self._trace is not None:
            self._trace.step_ended(reply, failure, took_s)
            if self._meter is not None and (span := self._trace.span_of_step()) is not None:
                self._meter.add_span(step.name, message.phase, took_s, *span)
