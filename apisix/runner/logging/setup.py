# SPDX-License-Identifier: Apache-2.0
"""
Set up the log: one stream for the runner and its plugins, text for people or JSON for machines.

All code uses the standard library's `logging.getLogger(__name__)`, with `extra={...}` for fields. A line that is written during a
call has the call's fields, no matter which code writes it. A value can't forge a line, because control characters are escaped.
"""

import atexit
import errno
import json
import logging
import os
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import Any, TextIO

from apisix.runner.errors import SettingsError
from apisix.runner.logging.call_fields import current_call, span_ids
from apisix.runner.logging.lean_structlog import (
    ExceptionRenderer,
    ExtraAdder,
    Processor,
    ProcessorFormatter,
    TimeStamper,
    add_log_level,
    add_logger_name,
    format_exc_info,
    merge_contextvars,
    structlog,
)
from apisix.runner.logging.repeat_limit import RepeatLimit
from apisix.runner.settings.table import Settings

LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}

LEADING = ("time", "level", "logger", "message", "request_id", "call", "route", "plugin", "trace_id", "span_id")

# These names are symbolic links in containers, and the log does not open a file through a link.
_STREAMS: dict[str | None, Callable[[], TextIO | None]] = {
    None: lambda: sys.stderr,
    "/dev/stderr": lambda: sys.stderr,
    "/dev/stdout": lambda: sys.stdout,
}

REPLACEMENTS_LOGGER = "apisix.runner.supervisor.worker_pool.pool"
"""The logger of the lines about replaced workers."""
BACKGROUND_LOGGER = "apisix.runner.plugin.chain.background"
"""The logger of the lines about background tasks."""

Replace = Callable[[str], str]
"""Returns a line of the log without the secrets of the call that is running."""

logger = logging.getLogger(__name__)
_replace: Replace | None = None
_installed: logging.Handler | None = None
_level = logging.INFO


def configure(settings: Settings, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> logging.Handler:
    """
    Set up the log from the settings, and log their notes. A second call replaces the set-up of the first.

    Args:
        settings: level, format, file, and the limit for repeated lines.
        stream: the stream to write to if the settings name no file; None for standard error.
        clock: returns seconds, for the limit of repeated lines.
    Returns: the handler that was added to the root logger.
    Raises: SettingsError: the file can't be opened.
    """
    global _installed, _level  # there is one log in a process, as there is one root logger
    handler = _handler(settings, stream)
    shared = _shared_processors(short_tracebacks=settings.log_effects)
    is_text = settings.log_format == "text" or (settings.log_format == "auto" and _is_terminal(handler))
    render: Processor = _render_text if is_text else _render_json
    handler.setFormatter(ProcessorFormatter(processors=[_finish, _without_secrets(render)], foreign_pre_chain=shared))
    if settings.log_repeats:
        handler.addFilter(RepeatLimit(settings.log_repeats, handler.emit, clock))
    root = logging.getLogger()
    if _installed is None:
        atexit.register(write_counts)
    else:
        root.removeHandler(_installed)
        _installed.close()
    root.addHandler(handler)
    _level = LEVELS[settings.log_level]
    root.setLevel(_level)
    _installed = handler
    if settings.log_effects:  # the development gateway reads these lines, so they do not depend on the level
        for name in (REPLACEMENTS_LOGGER, BACKGROUND_LOGGER):
            logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    # A check that is not awaited does not protect anything. Python would warn only once for each line of code.
    warnings.filterwarnings("always", r"coroutine .* was never awaited", RuntimeWarning)
    # Plugins that use structlog themselves write to the same stream, with the same fields.
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    for note in settings.notes:
        logger.warning("%s", note)
    return handler


def set_replacement(replace: Replace) -> None:
    """Set the function that replaces secrets in lines above the level debug. By default they are written as they are."""
    global _replace  # there is one log in a process
    _replace = replace


def _without_secrets(render: Processor) -> Processor:
    def rendered(target: Any, method: str, event: Any) -> str:
        is_debug = event.get("level") == "debug"
        line = str(render(target, method, event))
        return line if _replace is None or is_debug else _replace(line)

    return rendered


def write_counts() -> None:
    """Write how many repeated lines were suppressed so far. Python calls this at exit, but not after `os._exit`."""
    for limit in [] if _installed is None else _installed.filters:
        if isinstance(limit, RepeatLimit):
            limit.write_counts()


def _renew_locks() -> None:
    for limit in [] if _installed is None else _installed.filters:
        if isinstance(limit, RepeatLimit):
            limit.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)  # as the standard library does with the locks of handlers


handlers_of_output: list[logging.Handler] = []
"""Further handlers of lines that plugins print, which do not pass through loggers."""


def emit(record: logging.LogRecord) -> None:
    """Write a record to the log that `configure` set up, regardless of handlers and levels that an author has set since."""
    if _installed is not None and record.levelno >= _level:
        _installed.handle(record)
        for handler in handlers_of_output:
            handler.handle(record)


def log_stray_errors() -> None:
    """
    Log what Python would print to standard error: exceptions that ended a thread, and exceptions that could not be raised.

    Must be called once per process.
    """
    threading.excepthook = _log_thread_error
    sys.unraisablehook = _log_unraisable


def log_loop_error(_loop: object, context: Mapping[str, Any]) -> None:
    """Log an exception that was not handled in the event loop, for example one of a task that is not awaited."""
    error = context.get("exception")
    logger.error("an unhandled error: %s", context.get("message", ""), exc_info=error if isinstance(error, BaseException) else None)


def _log_thread_error(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is SystemExit:  # as Python's own hook does
        return
    name = arguments.thread.name if arguments.thread is not None else "of unknown name"
    error = arguments.exc_value or arguments.exc_type()
    logger.error("thread %s ended with an error", name, exc_info=(arguments.exc_type, error, arguments.exc_traceback))


def _log_unraisable(unraisable: Any) -> None:
    try:
        where = repr(unraisable.object)
    except Exception as repr_error:
        where = f"an object whose repr raises {type(repr_error).__name__}"
    error = unraisable.exc_value or unraisable.exc_type()
    exc_info = (unraisable.exc_type, error, unraisable.exc_traceback)
    logger.error("%s %s", unraisable.err_msg or "an error that could not be raised, in", where, exc_info=exc_info)


class LogFile(WatchedFileHandler):
    """A log file that is created again if it was moved, and that other users can't read."""

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "ab", opener=_open_log)  # noqa: SIM115  # it remains open
        return TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. If the file was moved and can't be created again, report this on standard error instead of raising."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


def _open_log(path: str, flags: int) -> int:
    # In a directory that others can write to, another user may have placed a link or a pipe of that name.
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o640)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe that no process reads, or a socket
            raise OSError(errno.EINVAL, "it is not a regular file") from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    os.set_blocking(descriptor, True)
    return descriptor


def _handler(settings: Settings, stream: TextIO | None) -> logging.Handler:
    if settings.log_file in _STREAMS:
        return logging.StreamHandler(stream or _STREAMS[settings.log_file]() or open(os.devnull, "w", encoding="utf-8"))
    assert settings.log_file is not None  # noqa: S101  # None is one of the streams
    try:
        return LogFile(settings.log_file)
    except OSError as error:
        # O_NOFOLLOW reports a link as ELOOP, "too many levels of symbolic links".
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or error
        raise SettingsError(f"logging.file is {settings.log_file!r}, which can't be opened: {reason}") from error


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, LogFile) and handler.stream.isatty()


def _shared_processors(*, short_tracebacks: bool) -> list[Processor]:
    return [
        add_log_level,
        add_logger_name,
        ExtraAdder(),
        merge_contextvars,
        _add_call,
        TimeStamper(fmt="iso", utc=True, key="time"),
        ExceptionRenderer(_short_traceback) if short_tracebacks else format_exc_info,
    ]


def _short_traceback(exc_info: Any) -> str:
    from apisix.runner.logging.tracebacks import format_error  # imported late: only the development gateway uses it

    return format_error(exc_info[1])


def _add_call(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the fields of the call that is running. Fields that the line has itself take precedence."""
    call = current_call.get()
    if call is not None:
        fields = {"request_id": call.request_id, "call": call.id, "route": call.route_key, "plugin": call.plugin}
        for name, value in fields.items():
            if value is not None:
                event.setdefault(name, value)
        if (ids := span_ids()) is not None:
            event.setdefault("trace_id", ids[0])
            event.setdefault("span_id", ids[1])
    return event


def _finish(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove internal fields, and put the others in the order in which they are read."""
    event["message"] = event.pop("event", "")
    for name in ("_record", "_from_structlog", "limited"):
        event.pop(name, None)
    return {name: event[name] for name in (*(lead for lead in LEADING if lead in event), *(rest for rest in event if rest not in LEADING))}


def _render_json(_logger: object, _method: str, event: Mapping[str, Any]) -> str:
    return json.dumps(event, default=repr)


def _render_text(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    exception = event.pop("exception", None)
    head = f"{event.pop('time', '')} {event.pop('level', ''):<7} {_printable(event.pop('logger', ''))}: {_printable(event.pop('message'))}"
    fields = "".join(f" {_printable(name)}={_value(value)}" for name, value in event.items())
    # Lines of a traceback can contain any text, so a bar distinguishes them from lines of the log.
    tail = "".join(f"\n  | {_printable(line)}" for line in str(exception).splitlines()) if exception else ""
    return head + fields + tail


def _printable(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _value(value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and text and not any(mark in text for mark in " =\"'")
    return text if is_plain else repr(text)
