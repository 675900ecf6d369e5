# SPDX-License-Identifier: Apache-2.0
"""
The log: one stream for the runner and its plugins, text for people or JSON for machines.

All code uses the standard library's `logging.getLogger(__name__)`, with `extra={...}` for fields. A line that is
written during a call bears the call's fields, whoever writes it. Lines can't be forged: a control character in a value
is written as its escape.
"""

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import Any, TextIO

from apisix.runner.call.context import current_call
from apisix.runner.errors import SettingsError
from apisix.runner.lean_structlog import (
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
from apisix.runner.log_repeats import RepeatLimit
from apisix.runner.settings import Settings

LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}

LEADING = ("time", "level", "logger", "message", "request_id", "call", "route", "plugin")

logger = logging.getLogger(__name__)
_installed: logging.Handler | None = None


def configure(settings: Settings, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> logging.Handler:
    """
    Set the log up as the settings say, and log their notes. Called again, it takes the place of what it set up before.

    Args:
        settings: level, format, file, and the limit for repetitions.
        stream: where lines go when the settings name no file; None for standard error.
        clock: what repetitions are timed with, in seconds.
    Returns: the handler that now stands at the root.
    Raises: SettingsError: the file can't be opened.
    """
    global _installed  # there is one log in a process, as there is one root logger
    handler = _handler(settings, stream)
    shared = _shared_processors()
    is_text = settings.log_format == "text" or (settings.log_format == "auto" and _is_terminal(handler))
    render: Processor = _render_text if is_text else _render_json
    handler.setFormatter(ProcessorFormatter(processors=[_finish, render], foreign_pre_chain=shared))
    if settings.log_repeats:
        handler.addFilter(RepeatLimit(settings.log_repeats, handler.emit, clock))
    root = logging.getLogger()
    if _installed is None:
        atexit.register(write_counts)
    else:
        root.removeHandler(_installed)
        _installed.close()
    root.addHandler(handler)
    root.setLevel(LEVELS[settings.log_level])
    _installed = handler
    logging.captureWarnings(capture=True)
    # For plugins that use structlog themselves: the same stream, the same fields.
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    for note in settings.notes:
        logger.warning("%s", note)
    return handler


def write_counts() -> None:
    """Write how many repetitions were held back so far. Happens by itself when Python exits, which `os._exit` is not."""
    for limit in [] if _installed is None else _installed.filters:
        if isinstance(limit, RepeatLimit):
            limit.write_counts()


class LogFile(WatchedFileHandler):
    """A log file that is made anew when it was moved away, and that others can't read."""

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "ab", opener=lambda path, flags: os.open(path, flags, 0o640))  # noqa: SIM115  # it stays open
        return TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")


def _handler(settings: Settings, stream: TextIO | None) -> logging.Handler:
    if settings.log_file is None:
        return logging.StreamHandler(stream or sys.stderr)
    try:
        return LogFile(settings.log_file)
    except OSError as error:
        raise SettingsError(f"logging.file is {settings.log_file!r}, which can't be opened: {error.strerror or error}") from error


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, LogFile) and handler.stream.isatty()


def _shared_processors() -> list[Processor]:
    return [
        add_log_level,
        add_logger_name,
        ExtraAdder(),
        merge_contextvars,
        _add_call,
        TimeStamper(fmt="iso", utc=True, key="time"),
        format_exc_info,
    ]


def _add_call(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add what is known of the call that runs here. What the line says itself comes first."""
    call = current_call.get()
    if call is not None:
        fields = {"request_id": call.request_id, "call": call.id, "route": call.route_key, "plugin": call.plugin}
        for name, value in fields.items():
            if value is not None:
                event.setdefault(name, value)
    return event


def _finish(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what serves the machinery, and put the fields in the order that one reads them in."""
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
    # A traceback may hold any text in its lines; the bar tells them from lines of the log.
    tail = "".join(f"\n  | {_printable(line)}" for line in str(exception).splitlines()) if exception else ""
    return head + fields + tail


def _printable(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _value(value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and text and not any(mark in text for mark in " =\"'")
    return text if is_plain else repr(text)
