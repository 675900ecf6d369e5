# SPDX-License-Identifier: Apache-2.0
"""What `dev` prints."""

import io
import json
import re
import sys
from dataclasses import replace

import pytest
from structlog.processors import TimeStamper

from apisix.gateway.display import FAILURES_LOGGER, Display, JsonDisplay, RichDisplay, display_for, record_lines, request_lines
from apisix.gateway.report import PhaseReport, PluginEffect, RequestReport
from apisix.gateway.resources.definitions import Problem
from apisix.runner.call import engine
from apisix.runner.records.redaction import digest


def plain(report: RequestReport) -> list[str]:
    """Return the lines about a request, without their styles."""
    return ["".join(text for text, _ in line) for line in request_lines(report)]


def report(*phases: PhaseReport, status: int = 200) -> RequestReport:
    """Return a report of a request that took 12.3 ms."""
    return RequestReport("GET", "/get", status, 0.0123, "1", "127.0.0.1:1980", list(phases))


def test_a_line_a_request() -> None:
    """The first line shows the request, the result, the duration and the way of the request."""
    assert plain(report()) == ["GET /get -> 200  12.3 ms  route 1  upstream 127.0.0.1:1980"]


def test_a_line_a_plugin() -> None:
    """Each plugin has a line below, with its changes."""
    effects = [PluginEffect("a", 0.001, ("header x-a added", "path /a -> /b")), PluginEffect("b", 1.5)]
    assert plain(report(PhaseReport("ext-plugin-pre-req", ("a", "b"), effects=effects)))[1:] == [
        "    a  1.0 ms  header x-a added, path /a -> /b",
        "    b  1.50 s  no change",
    ]


def test_an_exception() -> None:
    """An exception is shown with the frames of the author's code."""
    effect = PluginEffect("a", 0.001, error="ValueError: boom\na.py:5 in on_request: boom()")
    assert plain(report(PhaseReport("ext-plugin-pre-req", ("a",), error="refused", effects=[effect]), status=503))[1:] == [
        "    a  1.0 ms  ValueError: boom",
        "        a.py:5 in on_request: boom()",
        "    ext-plugin-pre-req: refused",
    ]


def test_a_second_request() -> None:
    """If APISIX sends the request to the upstream twice, a line reports it, because nothing else in the terminal shows it."""
    told = report(PhaseReport("ext-plugin-post-resp", ("a",), 0, 0.002), status=204)
    told.asked_twice = True

    assert "    the request was sent to the upstream twice, because there was no body to send" in plain(told)[-1]


def test_a_runner_that_reports_nothing() -> None:
    """Without reports of the plugins, there is one line for each call, with the gateway's own report."""
    phases = [
        PhaseReport("ext-plugin-pre-req", ("a", "b"), 0, duration_s=0.002, changes=("header x-a added",)),
        PhaseReport("ext-plugin-post-resp", (), 1, duration_s=0.003, error="the runner closed the connection"),
    ]
    assert plain(report(*phases))[1:] == [
        "    ext-plugin-pre-req (a, b)  2.0 ms  header x-a added",
        "    ext-plugin-post-resp  3.0 ms  the runner closed the connection",
    ]


def test_a_refused_configuration() -> None:
    """If the runner refuses a configuration, the reason is shown below the line, each time."""
    phase = PhaseReport("ext-plugin-pre-req", ("a",), 0, error="the runner answered with an error", refusal="there is no plugin a")
    assert plain(report(phase, status=503))[1:] == [
        "    ext-plugin-pre-req (a)  0.0 ms  the runner answered with an error",
        "        there is no plugin a",
    ]


def test_an_error_of_the_gateway() -> None:
    """Errors outside of the runner are shown too."""
    told = report(status=502)
    told.error = "can't connect"
    assert plain(told)[1] == "    can't connect"


@pytest.mark.parametrize(
    ("record", "lines"),
    [
        ({"message": "printed"}, ["printed"]),
        ({"message": "m", "level": "info", "logger": "apisix.runner.supervisor.worker_pool.pool"}, ["runner: info m"]),
        ({"message": "m", "level": "info", "logger": "root"}, ["root: info m"]),
        ({"message": "m\nn", "level": "warning", "logger": "root", "plugin": "hello", "call": 1}, ["hello: warning m", "    n"]),
        ({"message": "m", "level": "info", "logger": "x", "plugin": "hello", "user": 7, "a": "b"}, ["hello: info m  user=7  a=b"]),
        ({"message": "m", "level": "error", "logger": "x", "exception": "a\nb", "call": 1}, ["x: error m", "    a", "    b"]),
        ({"message": "plugin x failed", "level": "error", "logger": FAILURES_LOGGER, "exception": "a"}, ["runner: error plugin x failed"]),
        ({"message": "m", "level": "error", "logger": FAILURES_LOGGER, "exception": "a"}, ["runner: error m", "    a"]),
    ],
)
def test_records_of_the_log(record: dict[str, object], lines: list[str]) -> None:
    """The runner's log is passed on. The traceback of a failed call is not shown twice."""
    assert ["".join(text for text, _ in line) for line in record_lines(record)] == lines


def test_the_runner_uses_that_logger() -> None:
    """The name of the logger, which is written in two layers, is the same."""
    assert engine.engine_logger.name == FAILURES_LOGGER


def test_plain_display() -> None:
    """Without a terminal, lines have no colors, whatever bytes a path contains."""
    stream = io.StringIO()
    display = display_for(stream)
    assert type(display) is Display
    display.request(RequestReport("GET", "/\udcff", 200))
    display.problems([Problem("route 1", "is odd")])
    display.record({"message": "m"})
    display.notice("a\nb")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("GET /\\udcff -> 200  0.0 ms")
    assert rest == ["! route 1: is odd", "m", "a", "b"]


def test_rich_display() -> None:
    """On a terminal, lines have colors, and markup in a request is shown as text."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    display = display_for(stream)
    assert isinstance(display, RichDisplay)
    display.request(RequestReport("GET", "/[red]", 200))
    assert "/[red]" in stream.getvalue()


def test_rich_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rich, a terminal gets lines without colors."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    assert type(display_for(stream)) is Display


def test_json_display() -> None:
    """For tools, each line is an object that names its event."""
    stream = io.StringIO()
    display = display_for(stream, json=True)
    assert isinstance(display, JsonDisplay)
    display.request(report(PhaseReport("ext-plugin-pre-req", ("a",), 0, effects=[PluginEffect("a", 0.001, ("\udcff",))])))
    display.problems([Problem("route 1", "is odd")])
    display.record({"message": "m", "level": "info"})
    display.notice("n")
    request, problem, log, notice = map(json.loads, stream.getvalue().splitlines())
    assert (
        request["event"],
        request["status"],
        request["phases"][0]["effects"][0]["plugin"],
        request["phases"][0]["effects"][0]["changes"],
    ) == ("request", 200, "a", ["\\udcff"])
    del problem["time"], log["time"], notice["time"]
    assert problem == {"event": "problem", "where": "route 1", "what": "is odd"}
    assert log == {"event": "log", "message": "m", "level": "info"}
    assert notice == {"event": "notice", "text": "n"}


def test_secrets_in_the_query_are_not_shown() -> None:
    """For people and for tools."""
    secret = replace(report(), target="/get?a=1&token=correct-horse")
    stream = io.StringIO()
    display_for(stream, json=True).request(secret)
    shown = f"/get?a=1&token={digest('correct-horse')}"

    assert json.loads(stream.getvalue())["target"] == shown
    assert plain(secret)[0].startswith(f"GET {shown} -> 200")


def test_json_has_one_time_format() -> None:
    """Every event has a time, in the format of the runner's log: tools parse one format, and can sort all events by it."""
    stamp = TimeStamper(fmt="iso", utc=True, key="time")
    record = dict(stamp(None, "info", {"message": "m"}))
    stream = io.StringIO()
    display = JsonDisplay(stream)
    display.record(record)
    display.request(report())
    display.problems([Problem("route 1", "is odd")])
    display.record({"message": "printed"})
    display.notice("n")
    times = [json.loads(line)["time"] for line in stream.getvalue().splitlines()]
    assert times[0] == record["time"]
    assert [re.sub(r"\d", "0", time) for time in times] == ["0000-00-00T00:00:00.000000Z"] * 5
    assert sorted(times) == times


def test_a_plugin_in_two_phases() -> None:
    """If a request has several phases, each plugin's line says in which of them it ran."""
    phases = [
        PhaseReport("ext-plugin-pre-req", ("a",), effects=[PluginEffect("a", 0.001)]),
        PhaseReport("ext-plugin-post-req", ("a",), effects=[PluginEffect("a", 0.002, error="ValueError: x")]),
    ]
    assert plain(report(*phases))[1:] == [
        "    a (ext-plugin-pre-req)  1.0 ms  no change",
        "    a (ext-plugin-post-req)  2.0 ms  ValueError: x",
    ]
