# SPDX-License-Identifier: Apache-2.0
"""
Which modules may be compiled, and how a process chooses between them and their sources.

A compiled module lies beside its source, and Python prefers it. The sources run where APISIX_RUNNER_PURE is set, where not all modules
were compiled (a class in C expects its neighbours in C), and in a checkout where one was edited since.
`setup.py` reads this file too, by its path, so it imports nothing of the package.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing is imported that could wait: this stands before the socket
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "APISIX_RUNNER_PURE"
"""The environment variable that keeps compiled modules out."""

MODULES = (
    "apisix.runner.wire.frames",
    "apisix.runner.wire.flatbuf",
    "apisix.runner.wire.entries",
    "apisix.runner.wire.tables",
    "apisix.runner.wire.calls",
    "apisix.runner.wire.questions",
    "apisix.runner.wire.connection",
    "apisix.runner.http.fields",
    "apisix.runner.http.interface",
    "apisix.runner.http.overlay",
    "apisix.runner.http.live",
    "apisix.runner.http.views",
    "apisix.runner.http.edits",
    "apisix.runner.http.headers",
    "apisix.runner.http.dicts",
    "apisix.runner.http.legacy",
    "apisix.runner.http.legacy_core",
    "apisix.runner.http.reply",
    "apisix.runner.http.asking",
    "apisix.runner.http.exchange",
    "apisix.runner.http.request",
    "apisix.runner.http.response",
    "apisix.runner.plugin.hooks",
    "apisix.runner.call.peer",
    "apisix.runner.call.call",
    "apisix.runner.call.conversation",
    "apisix.runner.call.chains",
    "apisix.runner.call.runtime",
    "apisix.runner.call.stalls",
    "apisix.runner.call.execution",
    "apisix.runner.server.poller",
    "apisix.runner.server.session",
)
"""What each call runs through."""

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class SourcesOnly:
    """Finds the sources of the modules that may be compiled, in the place of what was compiled."""

    @staticmethod
    def find_spec(name: str, path: "Sequence[str] | None", target: "ModuleType | None" = None) -> "ModuleSpec | None":
        """Return the spec of a source file, or None to let others find the module. Source: importlib.abc.MetaPathFinder."""
        if name not in MODULES:
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, _source(name))


def choose() -> None:
    """Keep compiled modules out where they can't or shall not be used. To be called before any of them is imported."""
    if SourcesOnly not in sys.meta_path and why_pure() is not None:
        sys.meta_path.insert(0, SourcesOnly)


def why_pure() -> str | None:
    """Return why the sources run and not what was compiled of them, None where that does run."""
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} is set"
    is_checkout = os.path.exists(os.path.join(_ROOT, "setup.py"))  # elsewhere, times only say in which order files were copied
    for name in MODULES:
        source = _source(name)
        compiled = next(filter(os.path.exists, (f"{source[:-3]}{suffix}" for suffix in EXTENSION_SUFFIXES)), None)
        if compiled is None:
            return "not compiled for this Python"
        if is_checkout and os.stat(compiled).st_mtime < max(_changed(source), _changed(f"{source[:-3]}.pxd")):
            return f"{name} was edited since it was compiled: make accelerate"
    return None


def _source(name: str) -> str:
    return os.path.join(_ROOT, *name.split(".")) + ".py"


def _changed(file: str) -> float:
    return os.stat(file).st_mtime if os.path.exists(file) else 0.0
