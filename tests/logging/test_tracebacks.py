# SPDX-License-Identifier: Apache-2.0
"""Tracebacks are complete and short."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.logging import tracebacks
from apisix.runner.logging.tracebacks import MAX_FRAMES, MAX_MEMBERS, describe_error, format_error

EMPTY: dict[str, str] = {}


def raised_by(function: Callable[[], object]) -> Exception:
    """Return the exception that a function raises, as the runner catches it: without the frame of this function."""
    try:
        function()
    except Exception as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return error
    raise AssertionError("nothing was raised")


def fails_with_cause() -> None:
    """Raise an error that was caused by another."""
    try:
        EMPTY["key"]
    except KeyError as error:
        error.add_note("the note")
        raise ValueError("no key") from error


def fails_meanwhile() -> None:
    """Raise an error while another is handled."""
    try:
        EMPTY["key"]
    except KeyError:
        raise ValueError("and this")  # noqa: B904  # that is what is tested


def fails_with_a_group() -> None:
    """Raise several errors at once."""
    raise ExceptionGroup("several", [raised_by(fails_with_cause), OSError("second")])


def test_a_refusal_of_the_runner_has_no_stack() -> None:
    """The message contains everything that the author needs, and the line. The runner's own frames would not help."""
    refuse = compile("def refuse(error): raise error", str(Path(tracebacks.__file__).with_name("chains.py")), "exec")
    names: dict[str, Any] = {}
    exec(refuse, names)  # noqa: S102  # a frame that looks like the runner's
    error = raised_by(partial(names["refuse"], ChainRefused("wrong (plugin.py:6)")))
    assert describe_error(error) == "apisix.runner.errors.ChainRefused: wrong (plugin.py:6)"
    other = raised_by(partial(names["refuse"], ValueError("wrong")))
    assert ", in refuse" in describe_error(other)


def test_one_exception() -> None:
    """The first line contains the exception, and the others the places."""

    def hook() -> None:
        raise ValueError("wrong")

    first, place, source = describe_error(raised_by(hook)).splitlines()
    assert (first, source) == ("ValueError: wrong", '    raise ValueError("wrong")')
    assert place.startswith('  File "')
    assert place.endswith(", in hook")


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (fails_with_cause, ['EMPTY["key"]', "KeyError: 'key'", "the note", "direct cause", "raise ValueError"]),
        (fails_meanwhile, ["KeyError: 'key'", "During handling", "raise ValueError"]),
        (fails_with_a_group, ["several (2 sub-exceptions)", "KeyError: 'key'", "direct cause", "ValueError: no key", "OSError: second"]),
    ],
)
@pytest.mark.parametrize("describe", [describe_error, format_error])
def test_what_belongs_to_it(function: Callable[[], None], texts: list[str], describe: Callable[[BaseException], str]) -> None:
    """Causes, contexts, notes and the members of groups are shown, in order."""
    shown = describe(raised_by(function))

    places = [shown.find(text) for text in texts]
    assert -1 not in places
    assert sorted(places) == places


def test_recursion() -> None:
    """Functions that call themselves or each other have a short traceback."""

    def one() -> None:
        one()

    def ping(depth: int) -> None:
        pong(depth + 1)

    def pong(depth: int) -> None:
        ping(depth + 1)

    for function in (one, lambda: ping(0)):
        error = raised_by(function)
        assert isinstance(error, RecursionError)
        assert len(describe_error(error).splitlines()) <= 2 * MAX_FRAMES + 2


def test_large_groups() -> None:
    """Only some members of an exception group are shown, with the number of the others."""
    shown = describe_error(ExceptionGroup("many", [ValueError(str(number)) for number in range(1000)]))

    assert f"and {1000 - MAX_MEMBERS} more exceptions" in shown
    assert len(shown.splitlines()) < 50


def test_libraries_are_collapsed() -> None:
    """Of consecutive frames of a library, the last one is shown, with the number of the others."""

    def hook() -> None:
        json.loads("{")

    shown = describe_error(raised_by(hook))
    assert "in hook" in shown
    assert "more frames in json]" in shown
    assert shown.count(f'"{json.__path__[0]}') == 1


def test_values_are_not_shown() -> None:
    """Variables may contain secrets."""

    def hook() -> None:
        password = "open sesame"[:4]
        raise ValueError(f"wrong password of {len(password)} letters")

    assert "open sesa" not in describe_error(raised_by(hook)).replace('"open sesame"', "")
    assert "open'" not in format_error(raised_by(hook))


def test_frames_of_the_runner_alone() -> None:
    """The traceback of a defect in the runner itself contains the runner's frames, because there are no others."""
    runner_code = compile("def fail():\n    raise ValueError('ours')\n", "apisix/runner/call/sample.py", "exec")
    names: dict[str, Callable[[], object]] = {}
    exec(runner_code, names)  # noqa: S102  # the text above

    assert "sample.py" in describe_error(raised_by(names["fail"]))
