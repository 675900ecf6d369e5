# SPDX-License-Identifier: Apache-2.0
"""A process that a plugin has forked ends when the plugin's code returns. Its exit status depends on what the plugin raised."""

import inspect
import logging
import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

from apisix.runner.plugin import forked


class Exited(BaseException):
    """Raised instead of ending this process. Args: the exit status."""


class Stream:
    """An output that counts calls of `flush`, which may fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.flushed = 0
        self._error = error

    def flush(self) -> None:
        self.flushed += 1
        if self._error is not None:
            raise self._error


class Awaitable:
    """Waits once for "something". Then it returns "result" or the text of a ValueError that was thrown, or raises an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    def __await__(self) -> Generator[str, Any, str]:
        try:
            yield "something"
        except ValueError as thrown:
            return str(thrown)
        if self._error is not None:
            raise self._error
        return "result"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise Exited(status)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(forked, "_is_child", False)


def status_after(error: BaseException | None) -> int:
    """Return the exit status of a child whose hook raised this."""
    with pytest.raises(Exited) as exited:
        forked.end_forked(error)
    status: int = exited.value.args[0]
    return status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (SystemExit(), 0),
        (SystemExit(0), 0),
        (SystemExit(3), 3),
        (SystemExit(-1), 255),
        (SystemExit(258), 2),
        (SystemExit("a message"), 1),
        (ValueError("in the child"), 1),
        (KeyboardInterrupt(), 1),
    ],
    ids=repr,
)
def test_the_exit_status(error: BaseException | None, status: int) -> None:
    assert status_after(error) == status


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (None, []),
        (SystemExit(3), []),
        (ValueError("in the child"), [(logging.ERROR, "a process that a plugin has forked ends with an exception")]),
    ],
    ids=repr,
)
def test_only_an_exception_is_logged(error: BaseException | None, logged: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    status_after(error)

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == logged


@pytest.mark.parametrize("error", [None, OSError("broken pipe"), SystemExit(9)], ids=repr)
def test_both_outputs_are_flushed_even_if_flushing_fails(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
    streams = [Stream(error), Stream(error)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])

    assert status_after(None) == 0
    assert [stream.flushed for stream in streams] == [1, 1]


def test_outputs_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    assert status_after(SystemExit(4)) == 4


def test_the_worker_does_not_end() -> None:
    forked.end_if_child(ValueError("in the worker"))

    assert forked._is_child is False


def test_a_child_ends() -> None:
    forked.become_child()

    assert forked._is_child is True
    with pytest.raises(Exited, match=r"^3$"):
        forked.end_if_child(SystemExit(3))


def test_in_the_worker_an_awaitable_behaves_as_usual() -> None:
    steps = iter(forked.EndingInChild(Awaitable()).__await__())

    assert next(steps) == "something"
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    assert stopped.value.value == "result"


def test_in_the_worker_an_exception_can_be_thrown() -> None:
    steps = forked.EndingInChild(Awaitable())
    next(steps)

    with pytest.raises(StopIteration) as stopped:
        steps.throw(ValueError("thrown"))
    assert stopped.value.value == "thrown"


def test_in_the_worker_an_exception_is_raised() -> None:
    steps = forked.EndingInChild(Awaitable(KeyError("x")))
    next(steps)

    with pytest.raises(KeyError):
        next(steps)


def test_a_child_ends_if_the_hook_has_to_wait() -> None:
    steps = forked.EndingInChild(Awaitable(KeyError("not reached")))
    forked.become_child()

    with pytest.raises(Exited, match=r"^0$"):
        next(steps)


@pytest.mark.parametrize(("error", "status"), [(None, "0"), (SystemExit(3), "3"), (KeyError("x"), "1")], ids=repr)
def test_a_child_ends_if_the_hook_ends(error: BaseException | None, status: str) -> None:
    steps = forked.EndingInChild(Awaitable(error))
    next(steps)
    forked.become_child()

    with pytest.raises(Exited, match=f"^{status}$"):
        next(steps)


@pytest.mark.parametrize(("thrown", "status"), [(ValueError("is caught"), "0"), (KeyError("is not caught"), "1")], ids=repr)
def test_a_child_ends_if_a_thrown_exception_ends_the_hook(thrown: BaseException, status: str) -> None:
    steps = forked.EndingInChild(Awaitable())
    next(steps)
    forked.become_child()

    with pytest.raises(Exited, match=f"^{status}$"):
        steps.throw(thrown)


def test_close_ends_the_coroutine() -> None:
    async def wait() -> None:
        await Awaitable()

    coroutine = wait()
    steps = forked.EndingInChild(coroutine)
    next(steps)
    steps.close()

    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
