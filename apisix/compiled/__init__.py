# SPDX-License-Identifier: Apache-2.0
"""
The compiled engine: which modules it contains, and whether this process runs it or their Python sources.

Each entry of EXTENSIONS is one extension module, `apisix.compiled.NAME`, into which setup.py merges the sources that it lists. Where the
engine runs, importing one of these sources by its name gives the extension module. The Python sources run if the engine was not built for
this Python, if a source was edited since, or if APISIX_RUNNER_PURE is set: all of them, because a class in C expects to find others in C.

setup.py runs this file by its path, so it imports nothing of the package.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing is imported that could wait: this runs before the socket is bound
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "APISIX_RUNNER_PURE"
"""The environment variable that makes the Python sources run."""

EXTENSIONS = {
    "wire": (
        "apisix.runner.wire.frames",
        "apisix.runner.wire.flatbuf",
        "apisix.runner.wire.entries",
        "apisix.runner.wire.tables",
        "apisix.runner.wire.call_messages",
        "apisix.runner.wire.info_messages",
        "apisix.runner.wire.messages",
        "apisix.runner.wire.connection",
    ),
    "http": (
        "apisix.runner.plugin.forked",  # here because modules of `plugin` import it too
        "apisix.runner.http.header_rules",
        "apisix.runner.http.multidict_view",
        "apisix.runner.http.mutable_multidict_view",
        "apisix.runner.http.headers",
        "apisix.runner.http.query",
        "apisix.runner.http.reply",
        "apisix.runner.http.info_requests",
        "apisix.runner.http.message",
        "apisix.runner.http.request",
        "apisix.runner.http.response",
        "apisix.runner.plugin.chain.chain",  # here because modules that "call" imports import it
    ),
    "legacy": (
        "apisix.runner.legacy.header_dict",
        "apisix.runner.legacy.decision",
        "apisix.runner.legacy.edits",
        "apisix.runner.legacy.values",
        "apisix.runner.legacy.plugin_base_request",
        "apisix.runner.legacy.plugin_base_response",
        "apisix.runner.legacy.plugin_base_adapter",
        "apisix.runner.legacy.base_adapter",
    ),
    "call": (
        "apisix.runner.call.reply_sink",
        "apisix.runner.call.outcomes",
        "apisix.runner.call.threads",
        "apisix.runner.call.chain_cache",
        "apisix.runner.call.blocking.detector",
        "apisix.runner.call.deadlines",
        "apisix.runner.call.observing.trace",
        "apisix.runner.call.observing.recorder",
        "apisix.runner.call.runtime",
        "apisix.runner.call.resumable",
        "apisix.runner.call.greenlets",
        "apisix.runner.call.info_channel",
        "apisix.runner.call.waiting",
        "apisix.runner.call.engine",
    ),
    "connection": ("apisix.runner.worker.connection_handler",),
}
"""What each extension module contains, in the order in which it is merged: a source comes after those that it imports."""
INLINED = ("apisix.runner.primitives",)
"""Modules whose C functions are compiled into each extension module that calls them. Python callers use their source."""

_EXTENSION_OF = {source: f"{__name__}.{name}" for name, sources in EXTENSIONS.items() for source in sources}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class _Alias:
    """Loads the extension module that contains a source, under the source's name. Source: importlib.abc.Loader."""

    def __init__(self, extension: str) -> None:
        self._extension = extension

    def create_module(self, spec: "ModuleSpec") -> "ModuleType":
        """Return the extension module, perhaps while it is being initialised: then what comes before in it is there already."""
        from importlib import import_module

        module = import_module(self._extension)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: "ModuleType") -> None:
        """Keep the module's own spec, which the import system has just replaced."""
        module.__spec__ = self._spec


class CompiledModules:
    """Finds the sources of the engine in the extension modules. Source: importlib.abc.MetaPathFinder."""

    @staticmethod
    def find_spec(name: str, path: "Sequence[str] | None", target: "ModuleType | None" = None) -> "ModuleSpec | None":
        """Return the spec of a source that the engine contains, or None to let others find the module."""
        extension = _EXTENSION_OF.get(name)
        if extension is None:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, _Alias(extension))  # type: ignore[arg-type]  # a loader by its methods


def choose() -> None:
    """Make this process run the compiled engine if it can. Must be called before a module of the engine is imported."""
    if CompiledModules not in sys.meta_path and why_pure() is None:
        sys.meta_path.insert(0, CompiledModules)


def engine() -> str:
    """Return which engine runs: "compiled", or "pure Python" and why."""
    reason = why_pure()
    return "compiled" if reason is None else f"pure Python: {reason}"


def why_pure() -> str | None:
    """Return why the Python sources run, as half a sentence; None if the compiled engine runs."""
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} is set"
    # In an installed package, times only show in which order the files were copied.
    is_checkout = os.path.exists(os.path.join(_ROOT, "setup.py"))
    for name, sources in EXTENSIONS.items():
        built = _built(name)
        if built is None:
            how = "run `make build`" if is_checkout else "reinstall with pip's options --force-reinstall --no-cache-dir"
            return f"not compiled for this Python; install a C compiler and Python's headers (Debian: gcc python3-dev), then {how}"
        if is_checkout:
            built_s = os.stat(built).st_mtime
            for source in (*sources, *INLINED):
                file = source_file(source)
                if built_s < max(_changed_s(file), _changed_s(f"{file[:-3]}.pxd")):
                    return f"{source} was edited since it was compiled; run `make build`"
    return None


def source_file(module: str) -> str:
    """Return the path of a module's Python source."""
    return os.path.join(_ROOT, *module.split(".")) + ".py"


def _built(name: str) -> str | None:
    """Return the path of an extension module, None if it was not built for this Python."""
    stem = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    return next(filter(os.path.exists, (stem + suffix for suffix in EXTENSION_SUFFIXES)), None)


def _changed_s(file: str) -> float:
    return os.stat(file).st_mtime if os.path.exists(file) else 0.0
