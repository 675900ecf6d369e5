# SPDX-License-Identifier: Apache-2.0
"""The log: what a line contains, that lines can't be forged, and that an error in each call does not fill the disk."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from apisix.runner.errors import SettingsError
from apisix.runner.logging import setup as logs
from apisix.runner.logging.call_fields import current_call
from apisix.runner.logging.repeat_limit import RepeatLimit
from apisix.runner.settings.table import Settings

logger = logging.getLogger("plugins.key_auth")  # as a plugin of a user has it


@dataclass
class Call:
    """The attributes of a call that the log uses."""

    id: int = 0
    route_key: str | None = "route#1#ext-plugin-pre-req#42"
    plugin: str | None = "key-auth"
    request_id: str | None = None


class Clock:
    """A clock that does not move until a test moves it."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Log:
    """A log in memory."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.stream = io.StringIO()
        self.handler = logs.configure(Settings(**settings), stream=self.stream, clock=self.clock)

    def take(self) -> str:
        """Return what was written since the last time."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the JSON output, without their times."""
        lines = [json.loads(line) for line in self.take().splitlines()]
        assert all(line.pop("time") for line in lines)
        return lines

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines()]


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """Restore the root logger, the warnings and structlog after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()


@pytest.fixture
def call() -> Iterator[Call]:
    """A call that is running in this context."""
    call = Call()
    token = current_call.set(call)
    yield call
    current_call.reset(token)


def test_line_outside_a_call() -> None:
    """A line contains its time, level, logger and message, and the fields that it was given."""
    log = Log()
    logger.info("loaded %d plugins", 3, extra={"directory": "/srv"})

    assert log.lines() == [{"level": "info", "logger": "plugins.key_auth", "message": "loaded 3 plugins", "directory": "/srv"}]


def test_line_of_a_call(call: Call) -> None:
    """
    A plain log line of a plugin contains the call, the route and the plugin; also if the call is 0, and the request's id if it is known.
    """
    log = Log()
    logger.warning("before")
    call.request_id = "7fb2"
    logger.warning("after")

    fields = {"level": "warning", "logger": "plugins.key_auth", "call": 0, "route": "route#1#ext-plugin-pre-req#42", "plugin": "key-auth"}
    assert log.lines() == [{**fields, "message": "before"}, {**fields, "message": "after", "request_id": "7fb2"}]


def test_line_of_a_thread(call: Call) -> None:
    """The call of a plugin that runs in a thread of the pool, with a copy of the context, is found too."""
    log = Log()
    thread = threading.Thread(target=copy_context().run, args=(logger.warning, "in a thread"))
    thread.start()
    thread.join()

    assert [line["plugin"] for line in log.lines()] == ["key-auth"]


def test_own_fields_rule(call: Call) -> None:
    """Fields that a line has itself are not overwritten, because the supervisor may log about a plugin during the call of another."""
    log = Log()
    logger.warning("marked as blocking", extra={"plugin": "call-out"})

    assert [line["plugin"] for line in log.lines()] == ["call-out"]


@pytest.mark.usefixtures("call")
def test_structlog_lands_in_the_same_stream() -> None:
    """A plugin that uses structlog gets the same fields."""
    log = Log()
    structlog.get_logger("plugins.other").info("hello", size_bytes=12)

    assert log.lines() == [
        {
            "level": "info",
            "logger": "plugins.other",
            "message": "hello",
            "size_bytes": 12,
            "call": 0,
            "route": "route#1#ext-plugin-pre-req#42",
            "plugin": "key-auth",
        }
    ]


def test_bound_context() -> None:
    """Fields that a plugin binds with structlog's context variables are added to its plain log lines too."""
    log = Log()
    with structlog.contextvars.bound_contextvars(tenant="a"):
        logger.info("hello")

    assert [line["tenant"] for line in log.lines()] == ["a"]


def test_exception() -> None:
    """In JSON, a traceback is one field of its line. Otherwise it is text below its line, and each of its lines is marked."""
    for log_format in ("json", "text"):
        log = Log(log_format=log_format)
        try:
            raise ValueError("first\n2026-01-01T00:00:00Z error   forged: line")
        except ValueError:
            logger.exception("a plugin failed")
        lines = log.take().splitlines()

        assert (len(lines) > 1) == (log_format == "text")
        assert all(line.startswith("  | ") for line in lines[1:])
        assert "ValueError: first" in "".join(lines)


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\0", "\u2028", "\x85", "\udcff"])
def test_lines_cannot_be_forged(log_format: str, character: str) -> None:
    """A line break, an escape sequence or a byte that is not text, in a message, a field or its name, is written as an escape."""
    log = Log(log_format=log_format)
    evil = f"a{character}b"
    logger.info("path %s", evil, extra={"field": evil, evil: 1})
    text = log.take()

    assert character not in text.removesuffix("\n")
    assert text.count("\n") == 1
    assert text.isascii()


def test_text() -> None:
    """The text format has the message, then the fields; values that contain spaces or quotes are quoted."""
    log = Log(log_format="text")
    logger.info("listening", extra={"path": "/run/x.sock", "reason": "said so", "empty": ""})

    _, rest = log.take().split(" ", 1)
    assert rest == "info    plugins.key_auth: listening path=/run/x.sock reason='said so' empty=''\n"


@pytest.mark.parametrize(
    ("level", "expected"),
    [("error", ["error"]), ("warn", ["warn", "error"]), ("info", ["info", "warn", "error"]), ("debug", ["debug", "info", "warn", "error"])],
)
def test_levels(level: str, expected: list[str]) -> None:
    """Lines of the configured level and of more severe levels are written."""
    log = Log(log_level=level)
    logger.debug("debug")
    logger.info("info")
    logger.warning("warn")
    logger.error("error")

    assert log.messages() == expected


def test_repetitions_are_limited_and_counted() -> None:
    """The number of errors of one kind that are logged in a minute is limited. The next line is followed by the number of the others."""
    log = Log(log_repeats=2)
    for number in range(5):
        logger.error("call %d failed", number)

    assert log.messages() == ["call 0 failed", "call 1 failed"]

    log.clock.now_s = 60.0
    logger.info("anything")
    assert log.messages() == ["3 more lines like this one were not written: call %d failed", "anything"]

    logger.error("call %d failed", 5)
    assert log.messages() == ["call 5 failed"]


def test_count_is_a_field() -> None:
    """A tool reads the count from a field of a line that has the level and logger of the lines that it replaces."""
    log = Log(log_repeats=1)
    logger.error("failed")
    logger.error("failed")
    log.take()
    logs.write_counts()

    assert log.lines() == [
        {"level": "error", "logger": "plugins.key_auth", "message": "1 more lines like this one were not written: failed", "suppressed": 1}
    ]


def test_kinds_are_limited_apart(call: Call) -> None:
    """Many errors of one plugin do not hide the failure of another one, and one exception does not hide another of a different class."""
    log = Log(log_repeats=1)
    for plugin in ("key-auth", "limit-count"):
        call.plugin = plugin
        for error in (ValueError("1"), ValueError("2"), KeyError("3")):
            logger.error("a plugin failed", exc_info=error)

    written = [(line["plugin"], line["exception"]) for line in log.lines()]
    assert written == [
        ("key-auth", "ValueError: 1"),
        ("key-auth", "KeyError: '3'"),
        ("limit-count", "ValueError: 1"),
        ("limit-count", "KeyError: '3'"),
    ]


def test_what_is_never_limited() -> None:
    """These are not limited: information, lines that ask not to be, and all lines if the limit is 0."""
    log = Log(log_repeats=1)
    for route in range(3):
        logger.info("route %d is ready", route)
        logger.error("route %d is refused", route, extra={"limited": False})
    assert len(lines := log.lines()) == 6
    assert not any("limited" in line for line in lines)

    log = Log(log_repeats=0)
    for number in range(100):
        logger.error("call %d failed", number)
    assert len(log.lines()) == 100


def test_memory_of_kinds_is_bounded() -> None:
    """If a plugin puts names into its formats, so that each line is of another kind, memory is limited. The counts are still correct."""
    log = Log(log_repeats=1)
    logger.error("failed")
    logger.error("failed")
    for number in range(1000):
        logger.error(f"user {number} failed")  # what the test is about

    assert "1 more lines like this one were not written: failed" in log.messages()


class Body:
    """A large object among the local variables of a call that fails."""


def test_the_limit_keeps_nothing_of_a_failed_call() -> None:
    """
    Neither the traceback, whose frames refer to the call's variables, nor the arguments of a line are kept after the line was written.
    """
    written: list[logging.LogRecord] = []
    limit = RepeatLimit(1, written.append)
    seen: list[weakref.ref[Body]] = []

    def fail(body: Body) -> None:
        seen.append(weakref.ref(body))
        raise ValueError("1")

    for number in range(3):
        body = Body()
        try:
            fail(body)
        except ValueError:
            limit.filter(logging.LogRecord("plugins", logging.ERROR, __file__, 1, "call %d of %s failed", (number, body), sys.exc_info()))
        del body

    assert [reference() for reference in seen] == [None, None, None]
    limit.write_counts()
    assert [record.getMessage() for record in written] == ["2 more lines like this one were not written: call %d of %s failed"]


def test_the_limit_keeps_a_short_text() -> None:
    """Only the beginning of a long format is kept, for example if a plugin logs a whole body."""
    log = Log(log_repeats=1)
    for _ in range(2):
        logger.error("x" * 1_000_000)
    log.take()
    logs.write_counts()
    assert log.messages() == ["1 more lines like this one were not written: " + "x" * 1000]


def test_format_follows_the_stream() -> None:
    """`auto` is text on a terminal and JSON elsewhere."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_json in ((Terminal(), False), (io.StringIO(), True)):
        logs.configure(Settings(), stream=stream)
        logger.info("hello")

        assert stream.getvalue().startswith("{") == is_json


def test_file_survives_rotation(tmp_path: Path) -> None:
    """If the file was moved away, the next line creates a new one. Other users can never read it."""
    file = tmp_path / "runner.log"
    logs.configure(Settings(log_file=str(file)))
    logger.info("one")
    file.rename(tmp_path / "runner.log.1")
    logger.info("two \udcff")

    assert [json.loads(line)["message"] for line in (tmp_path / "runner.log.1").read_text().splitlines()] == ["one"]
    assert [json.loads(line)["message"] for line in file.read_text().splitlines()] == ["two \udcff"]
    assert file.stat().st_mode & 0o007 == 0


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """If the directory of the log file does not exist, the start ends with one sentence."""
    file = tmp_path / "nowhere" / "runner.log"

    with pytest.raises(SettingsError) as caught:
        logs.configure(Settings(log_file=str(file)))

    assert str(caught.value) == f"logging.file is {str(file)!r}, which can't be opened: No such file or directory"


def test_notes_of_the_settings() -> None:
    """Messages about loading the settings are logged when the log is ready."""
    log = Log(notes=("socket.file names $env.X, which is not set",))

    assert log.messages() == ["socket.file names $env.X, which is not set"]


@pytest.mark.process
def test_python_warnings() -> None:
    """A DeprecationWarning that a plugin causes is written to the stream, not to the terminal."""
    program = (
        "import sys, warnings; from apisix.runner.logging import setup as logs; from apisix.runner.settings.table import Settings;"
        "logs.configure(Settings(), stream=sys.stdout); warnings.warn('old', UserWarning)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ})

    assert json.loads(done.stdout)["logger"] == "py.warnings"


@pytest.mark.process
def test_counts_are_written_at_the_end() -> None:
    """When a process exits, it logs how many lines were suppressed."""
    program = (
        "import sys, logging; from apisix.runner.logging import setup as logs; from apisix.runner.settings.table import Settings;"
        "logs.configure(Settings(log_repeats=1), stream=sys.stdout);"
        "[logging.error('failed') for _ in range(3)]"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout.splitlines()[-1])["suppressed"] == 2


def test_configuring_again_leaves_one_handler() -> None:
    """A worker that sets up its log again does not write each line twice."""
    first = Log()
    second = Log()
    logger.info("hello")

    assert first.messages() == []
    assert second.messages() == ["hello"]


@pytest.mark.process
def test_importing_the_log_leaves_rich_out() -> None:
    """The runner does not import rich, which structlog imports if it is installed. A plugin can still import it."""
    code = "import sys, apisix.runner.logging.setup; print('rich' in sys.modules); import rich; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\nTrue\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("elsewhere"), "it is a symbolic link"),
        (os.mkfifo, "it is not a regular file"),
        (Path.mkdir, "Is a directory"),
    ],
)
def test_a_trap_in_the_place_of_the_file(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    """The log is not written through a link, or to a pipe that somebody has created in its place. The start does not hang either."""
    path = tmp_path / "log"
    make(path)

    with pytest.raises(SettingsError) as caught:
        logs.configure(Settings(log_file=str(path)))

    assert str(caught.value) == f"logging.file is {str(path)!r}, which can't be opened: {reason}"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_can_not_be_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the log file and its directory were removed, writing a line raises no error."""
    (tmp_path / "logs").mkdir()
    logs.configure(Settings(log_file=str(tmp_path / "logs" / "log")))
    (tmp_path / "logs" / "log").unlink()
    (tmp_path / "logs").rmdir()

    logging.getLogger("author").warning("hello")

    assert "FileNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stderr", "stdout"])
def test_the_names_of_streams(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """/dev/stderr and /dev/stdout are links on every system, and mean the streams themselves."""
    logs.configure(Settings(log_file=f"/dev/{name}"))
    logging.getLogger("author").warning("hello")

    assert "hello" in getattr(capsys.readouterr(), name[-3:])


FORK_WHILE_LOGGING = """
import logging, os, threading, warnings
from apisix.runner.logging import setup as logs
from apisix.runner.settings.table import Settings

handler = logs.configure(Settings())
held, done = threading.Event(), threading.Event()

def hold():
    with handler.filters[0]._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
# From Python 3.12 on, a fork beside threads is warned of, and that warning would wait for the lock too.
warnings.simplefilter("ignore", DeprecationWarning)
pid = os.fork()
if not pid:
    logging.error("in the child")
    os._exit(0)
os.waitpid(pid, 0)
done.set()
thread.join()
"""


@pytest.mark.process
def test_a_child_can_log_whatever_its_parent_was_doing() -> None:
    """A process that is forked while another thread logs does not wait for that thread, which it does not have."""
    done = subprocess.run([sys.executable, "-c", FORK_WHILE_LOGGING], capture_output=True, text=True, check=True, timeout=30)
    assert "in the child" in done.stderr
