# SPDX-License-Identifier: Apache-2.0
"""Printed lines become log records."""

import io
import logging
import sys
import threading
from contextvars import copy_context

import pytest

from apisix.runner.logging.call_fields import current_call
from apisix.runner.logging.captured import MAX_LINE_CHARS, PrintedLines, capture_prints


class Call:
    """The fields of a call, as a log line contains them."""

    id = 7
    route_key = None
    plugin = "author"
    request_id = None


class Log:
    """Collects records: their text, their module and the call that was current."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.modules: set[str] = set()
        self.calls: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(record.getMessage())
        self.modules.add(record.name)
        self.calls.append(current_call.get())


@pytest.fixture
def log() -> Log:
    """An empty log."""
    return Log()


@pytest.fixture
def stream(log: Log) -> PrintedLines:
    """A stream whose lines go to the log, without a descriptor."""
    return PrintedLines(None, logging.INFO, log.emit)


def test_lines_arrive_when_they_end(stream: PrintedLines, log: Log) -> None:
    """
    A complete line is logged at once under the name of its module, an incomplete one when the thread ends. An empty line is not logged.
    """
    print("one\ntwo", file=stream)
    print("thr", end="", file=stream)
    assert log.lines == ["one", "two"]
    print("ee\n", file=stream)

    assert log.lines == ["one", "two", "three"]
    assert log.modules == {__name__}


def test_a_part_arrives_when_it_is_flushed(stream: PrintedLines, log: Log) -> None:
    """flush() logs the incomplete line of the thread. The end of the process logs those of all threads."""
    thread = threading.Thread(target=print, args=("theirs",), kwargs={"end": "", "file": stream})
    thread.start()
    thread.join()
    print("ours", end="", flush=True, file=stream)
    assert log.lines == ["ours"]

    stream.flush_all()
    assert log.lines == ["ours", "theirs"]


def test_lines_of_two_calls_are_not_mixed(stream: PrintedLines, log: Log) -> None:
    """An incomplete line that one call has printed ends when another call prints, and each part has its own fields."""
    first, second = Call(), Call()
    for call in (first, second):
        context = copy_context()
        context.run(current_call.set, call)
        context.run(print, "part", end="", file=stream)
    print("no call", file=stream)

    assert log.lines == ["part", "part", "no call"]
    assert log.calls == [first, second, None]


def test_a_line_without_an_end_is_cut(stream: PrintedLines, log: Log) -> None:
    """The size of an incomplete line is limited."""
    stream.write("x" * (MAX_LINE_CHARS + 1))
    stream.flush()

    assert [len(line) for line in log.lines] == [MAX_LINE_CHARS, 1]


def test_bytes(stream: PrintedLines, log: Log) -> None:
    """Bytes are read as UTF-8, and invalid bytes are escaped. Any other type is refused, as by any text stream."""
    stream.buffer.write("é".encode() + b"\xff\n")
    assert log.lines == ["é\\xff"]
    with pytest.raises(TypeError):
        stream.write(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()


def test_a_log_that_prints(log: Log) -> None:
    """A message of the log about its own failure is written to the original stream, and is not captured."""
    original = io.StringIO()

    def fail(record: logging.LogRecord) -> None:
        print("the log can't be written", file=failing)

    failing = PrintedLines(original, logging.INFO, fail)
    print("hello", file=failing)

    assert original.getvalue() == "the log can't be written\n"


def test_the_handler_of_an_author(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that an author has set up writes one line of the log for each record, and not its own output again."""
    monkeypatch.setattr(sys, "stderr", PrintedLines(None, logging.WARNING, log.emit))
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("author: %(message)s"))
    logger = logging.getLogger("an.author")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(handler)
    try:
        logger.warning("hello")
    finally:
        logger.removeHandler(handler)

    assert log.lines == ["author: hello"]
    assert log.modules == {__name__}


def test_a_terminal_is_not_captured(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, where a debugger may prompt, the streams are not replaced. Missing streams and pipes are captured."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", None)
    finish = capture_prints(log.emit)
    print("no newline", end="", file=sys.stderr)
    finish()

    assert sys.stdout is terminal
    assert log.lines == ["no newline"]
