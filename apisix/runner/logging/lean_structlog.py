# SPDX-License-Identifier: Apache-2.0
"""
The parts of structlog that the log needs, imported without rich.

structlog imports rich if it is installed, for coloured tracebacks that the runner never writes. The extra `dev` installs it, and the
import would take a considerable part of the time until the first worker is forked.
"""

import sys

_UNUSED = [name for name in ("rich", "better_exceptions") if name not in sys.modules]
for _name in _UNUSED:
    sys.modules[_name] = None  # type: ignore[assignment]  # "can't be imported". Source: importlib, "the import system", 5.3.1
try:
    import structlog
    from structlog.contextvars import merge_contextvars
    from structlog.processors import ExceptionRenderer, TimeStamper, format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
    from structlog.typing import Processor
finally:
    for _name in _UNUSED:
        del sys.modules[_name]

__all__ = [
    "ExceptionRenderer",
    "ExtraAdder",
    "Processor",
    "ProcessorFormatter",
    "TimeStamper",
    "add_log_level",
    "add_logger_name",
    "format_exc_info",
    "merge_contextvars",
    "structlog",
]
