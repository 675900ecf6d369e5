# SPDX-License-Identifier: Apache-2.0
"""
`breakpoint()` in a plugin: it opens a prompt with `apisix-runner dev --debug`, and raises an error that explains this otherwise.

A worker has no terminal to read from, so the usual prompt would hang until the gateway gives up.
"""

import os
import pdb
import sys
from typing import Any, Final

from apisix.runner.call.blocking.detector import BlockingDetector
from apisix.runner.plugin.plugin_type import PluginType

DEBUG_VARIABLE: Final = "APISIX_DEV_DEBUG"
"""The environment variable that `dev --debug` sets, because plugins may wait in a debugger."""
TERMINAL: Final = "/dev/tty"

NO_TERMINAL: Final = (
    "breakpoint() has no terminal here. Run the plugin with `apisix-runner dev --debug`, or its test with `pytest`, "
    "where breakpoint() opens a prompt. See docs/guides/debug.md"
)


class NoDetection(BlockingDetector):
    """Marks no plugin as blocking and reports none, because a plugin in a debugger blocks the event loop until the user continues."""

    def record(self, plugin_type: PluginType, held_s: float, now_s: float) -> None:
        """Do nothing."""

    def watch(self, *_: object) -> None:
        """Do nothing."""


def is_debugging() -> bool:
    """Return whether `dev --debug` has started this runner."""
    return DEBUG_VARIABLE in os.environ


def install() -> None:
    """Install the hook of this module for `breakpoint()`, unless PYTHONBREAKPOINT is set or a debugger has installed its own."""
    if sys.breakpointhook is sys.__breakpointhook__ and "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = _break


def _break(*arguments: Any, **options: Any) -> Any:
    if is_debugging():
        # Not standard input and output, because the output of plugins is captured.
        terminal = open(TERMINAL, encoding="utf-8"), open(TERMINAL, "w", encoding="utf-8")  # noqa: SIM115  # the debugger keeps them
        pdb.Pdb(stdin=terminal[0], stdout=terminal[1], nosigint=True).set_trace(sys._getframe(1))
        return None
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():  # `start` in a terminal
        return sys.__breakpointhook__(*arguments, **options)
    raise RuntimeError(NO_TERMINAL)
