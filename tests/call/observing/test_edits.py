# SPDX-License-Identifier: Apache-2.0
"""Descriptions of what plugins did."""

from collections.abc import Callable
from typing import Any

from apisix.runner.call.observing.edits import edits_of
from apisix.runner.logging.tracebacks import describe_error, past_runner
from tests.http.calls import a_request


def runner_function(file: str) -> Callable[[Callable[[], object]], object]:
    """Return a function of a module of the runner, which calls another function."""
    namespace: dict[str, Any] = {"__name__": "apisix.runner.call.sample"}
    exec(compile("def call(function):\n    return function()\n", file, "exec"), namespace)  # noqa: S102  # the text above
    call: Callable[[Callable[[], object]], object] = namespace["call"]
    return call


def failure() -> BaseException:
    """Return an error of a plugin's function that the runner calls for another function of the plugin, which the runner calls too."""
    call = runner_function("build/cython/apisix/compiled/call.py")  # relative, as Cython writes it

    def hook() -> object:
        return call(helper)

    def helper() -> object:
        raise ValueError("wrong")

    try:
        call(hook)
    except ValueError as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this frame, as the runner catches it
        return error
    raise AssertionError


def test_only_the_authors_frames() -> None:
    """A description contains only the frames of the plugin, whether the runner's modules are compiled or not."""
    lines = describe_error(failure()).splitlines()

    assert lines[0] == "ValueError: wrong"
    assert [line.split(", in ")[1] for line in lines if ", in " in line] == ["hook", "helper"]
    assert lines[-1].strip() == 'raise ValueError("wrong")'


def test_past_runner() -> None:
    """Frames of the runner are removed from the beginning of a traceback only."""
    trace = past_runner(failure().__traceback__)

    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names == ["hook", "call", "helper"]
    assert past_runner(None) is None


def test_headers_of_a_request_as_the_gateway_applies_them() -> None:
    """An empty value is a deletion, and a deletion that is not sent to the gateway is described as such."""
    before = a_request(headers=[("host", "h"), ("x", "1"), ("content-length", "3"), ("te", "trailers"), ("came-empty", "")])
    after = before.copy()
    after.headers["x"] = ""
    after.headers["never-there"] = ""
    after.headers["host"] = "other"
    del after.headers["content-length"]
    del after.headers["te"]

    assert {edit.phrase() for edit in edits_of(before, after)} == {
        "header host changed",
        "header x removed",
        "header te removed",
        "header content-length removed for later plugins only",
    }
