# SPDX-License-Identifier: Apache-2.0
"""The end of a process that a plugin has forked: it must not go on as a second worker."""

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

logger = logging.getLogger(__name__)


def end_forked(failure: BaseException | None) -> NoReturn:
    """
    End this process, a child of the worker, now that the hook in which it was forked has ended.

    Args: failure: what the hook raised, if anything. SystemExit gives the exit status, as in any program.
    """
    status = 0
    if isinstance(failure, SystemExit):
        status = failure.code if isinstance(failure.code, int) else int(failure.code is not None)
    elif failure is not None:
        status = 1
        logger.error("a process that a plugin has forked ends with an exception", exc_info=failure)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(status & 0xFF)
