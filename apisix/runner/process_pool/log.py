# SPDX-License-Identifier: Apache-2.0
"""Pass log lines of a process of the pool to the log of the worker, which adds the fields of the call."""

import logging
from collections.abc import Callable
from typing import Final

from apisix.runner.logging.captured import capture_prints
from apisix.runner.logging.lean_structlog import structlog
from apisix.runner.logging.tracebacks import format_error
from apisix.runner.process_pool.messages import Logged

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""The attributes of each record. All others are fields."""


class ErrorOfProcess(Exception):
    """The exception of a log line. Its text is the traceback."""


class Sender(logging.Handler):
    """Sends each record. Args: send: sends a message to the worker."""

    def __init__(self, send: Callable[[Logged], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            fields = {name: value if isinstance(value, str | int | float | None) else repr(value) for name, value in _fields(record)}
            self._send(Logged(record.name, record.levelno, record.getMessage(), None if error is None else format_error(error), fields))
        except Exception:  # as each handler of the standard library does
            self.handleError(record)


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, value) for name, value in vars(record).items() if name not in _OWN]


def install(send: Callable[[Logged], None], level: int) -> None:
    """Send the log of this process, including what is printed. Args: level: the least severe level."""
    handler = Sender(send)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    capture_prints(handler.emit)


def write(line: Logged) -> None:
    """Write a line of a process to the log of the worker."""
    target = logging.getLogger(line.logger)
    if not target.isEnabledFor(line.level):
        return
    error = None if line.traceback is None else ErrorOfProcess(line.traceback)
    record = logging.LogRecord(line.logger, line.level, "", 0, "%s", (line.message,), None if error is None else (type(error), error, None))
    record.limited = False  # the limit for repeated lines compares formats, and these lines have only one
    vars(record).update({name: value for name, value in line.fields.items() if name not in _OWN})
    target.handle(record)
