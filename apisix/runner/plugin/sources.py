# SPDX-License-Identifier: Apache-2.0
"""Where plugins come from, and their import: built-in ones, directories, modules on the path, entry points."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from apisix.runner.plugin.check import base_by_looks, is_plugin_class
from apisix.runner.plugin.naming import kebab_case, snake_case, words_of
from apisix.runner.plugin.plugin_type import Problem, Source, SourceKind
from apisix.runner.plugin.sibling_modules import PREFIX, open_package

BUILTIN_PACKAGE = "apisix.plugins"
ENTRY_POINT_GROUP = "apisix.plugins"
_MODULE_AND_CLASS = re.compile(r"(?P<module>\w+(?:\.\w+)*)(?:\s*:\s*(?P<attribute>\w+(?:\.\w+)*))?\s*(?:\[.*\])?\s*")


@dataclass(frozen=True, slots=True)
class Origin:
    """A module that may hold plugins, not yet imported. `file` is what to open when it can't be."""

    kind: SourceKind
    module: str
    file: str
    attribute: str | None = None
    entry_point: str | None = None

    @property
    def stem(self) -> str:
        """The last part of the module's name."""
        return self.module.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A class that an origin offers. `stem` is the file's name where that means this class and no other of the file.

    If the class only looks like a plugin, `names` are those by which routes may mean it; else it is None.
    """

    cls: type
    source: Source
    stem: str | None
    names: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An origin that can't be imported, and the names by which routes may have meant its plugins."""

    problem: Problem
    names: frozenset[str]
    kind: SourceKind


def builtin_origins() -> Iterator[Origin]:
    """Find the modules of `apisix.plugins`."""
    package = importlib.import_module(BUILTIN_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        yield Origin("builtin", f"{BUILTIN_PACKAGE}.{module.name}", str(Path(package.__path__[0], f"{module.name}.py")))


def directory_origins(directory: Path) -> Iterator[Origin | Failure]:
    """Find the files and packages of a directory. Those that begin with an underscore or a dot are not offered."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        reason = f"the directory of plugins can't be read: {error.strerror}"
        problem = Problem(None, str(directory), 0, reason, "Create it, or mend the path that the settings or --plugins give")
        yield Failure(problem, frozenset(), "directory")
        return
    package = open_package(directory)
    for entry in entries:
        file = entry / "__init__.py" if entry.is_dir() else entry
        if entry.name.startswith(("_", ".")) or file.suffix != ".py" or not file.is_file():
            continue
        if "." in entry.stem:
            problem = Problem(None, str(file), 0, "the file's name has a dot in it, so it is no module", "Rename it")
            yield Failure(problem, names_like(entry.stem), "directory")
            continue
        yield Origin("directory", f"{package}.{entry.stem}", str(file))


def module_origin(name: str) -> Origin:
    """Describe a module on the path, `package.module`."""
    return Origin("module", name, name)


def entry_point_origins() -> Iterator[Origin | Failure]:
    """Find what installed distributions offer in the group `apisix.plugins`."""
    from importlib.metadata import entry_points  # takes 15 ms, which a start without this source need not spend

    for point in entry_points(group=ENTRY_POINT_GROUP):
        distribution = f"the distribution {point.dist.name}" if point.dist else "an unknown distribution"
        label = f"{point.name} = {point.value} in the group {point.group} of {distribution}"
        # Matched here: what an EntryPoint does with a value that names no module differs from Python to Python.
        value = _MODULE_AND_CLASS.fullmatch(point.value)
        if value is not None:
            yield Origin("entry point", value["module"], point.value, value["attribute"], label)
        else:
            problem = Problem(None, point.value, 0, "it names no module", "Write it as package.module:Class", label)
            yield Failure(problem, names_like(point.name), "entry point")


def load(origin: Origin) -> list[Loaded] | Failure:
    """
    Import a module and return the plugin classes that are defined in it, or below it where it is a package.

    Classes that look like plugins and derive from nothing are returned too, with their names.
    """
    try:
        module = importlib.import_module(origin.module)
        values: Iterable[object] = vars(module).values()
        if origin.attribute is not None:
            values = [_attribute_of(module, origin.attribute)]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit at import must not end the runner
        return Failure(replace(_import_problem(origin, error), entry_point=origin.entry_point), _names_in(origin), origin.kind)

    def is_own(cls: type) -> bool:
        return f"{cls.__module__}.".startswith(f"{module.__name__}.")

    found = {id(value): value for value in values if isinstance(value, type) and (is_own(value) or origin.attribute)}
    classes = [value for value in found.values() if is_plugin_class(value)]
    loaded = [
        Loaded(cls, _source_of(cls, origin), origin.stem if len(classes) == 1 or words_of(cls.__name__) == words_of(origin.stem) else None)
        for cls in classes
    ]
    loaded += [
        Loaded(cls, _source_of(cls, origin), None, _names_in(origin))
        for cls in found.values()
        if all(is_own(base) for base in cls.__mro__[1:-1]) and base_by_looks(cls) is not None
    ]
    if not loaded and origin.kind in ("module", "entry point"):
        advice = "Name a class that derives from apisix.Plugin and does not begin with _, or the module in which one is defined"
        problem = Problem(None, _file_of(origin), 0, "it offers no plugin class", advice, origin.entry_point)
        return Failure(problem, _names_in(origin), origin.kind)
    return loaded


def _attribute_of(module: ModuleType, dotted: str) -> object:
    """Follow the part of an entry point behind its colon."""
    value: object = module
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def _source_of(cls: type, origin: Origin) -> Source:
    """Find a class's file and line."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or origin.file
    try:
        line = inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        line = 1
    return Source(origin.kind, file, line, cls.__module__, origin.entry_point)


def _import_problem(origin: Origin, error: BaseException) -> Problem:
    """Say what went wrong at which of the author's lines."""
    file, line = _author_line(origin, error)
    text = re.sub(rf"{PREFIX}\w+\.", "", f"{type(error).__name__}: {error}".rstrip(": "))
    if isinstance(error, SyntaxError):
        return Problem(None, file, line, f"it can't be compiled: {error.msg}", "Mend the syntax")
    if isinstance(error, ModuleNotFoundError):
        missing = error.name or ""
        if origin.kind != "directory" and (origin.module == missing or origin.module.startswith(missing + ".")):
            advice = "Mend its name, install it, or put its directory on PYTHONPATH"
            return Problem(None, file, line, f"there is no module {missing}", advice)
        missing = missing.rpartition(".")[2] if missing.startswith(PREFIX) else missing
        advice = f"Install {missing.partition('.')[0]} for {sys.executable}, put it beside the plugin, or mend the import"
        return Problem(None, file, line, f"it imports {missing}, which is missing", advice)
    if isinstance(error, SystemExit):
        return Problem(None, file, line, f"it exits while it is imported ({text})", "A plugin's module must only define things")
    return Problem(None, file, line, f"it can't be imported: {text}", "Mend that line")


def _author_line(origin: Origin, error: BaseException) -> tuple[str, int]:
    """Find the last line in the traceback that is in the plugin's own directory."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 1
    file = _file_of(origin)
    if not Path(file).is_file():  # a module that is missing
        return file, 0
    root = str(Path(file).resolve().parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(Path(frame.filename).resolve()).startswith(root + "/")]
    return (own[-1].filename, own[-1].lineno or 1) if own else (file, 1)


def _file_of(origin: Origin) -> str:
    """Find the file of a module that could not be imported."""
    if origin.kind in ("builtin", "directory"):
        return origin.file
    try:
        spec = importlib.util.find_spec(origin.module)
    except Exception:  # a parent package that fails too
        spec = None
    return (spec.origin if spec else None) or origin.file


def _names_in(origin: Origin) -> frozenset[str]:
    """
    Guess which plugins a file would have offered.

    Lines are looked at, not a syntax tree: the file need not be Python at the moment.
    """
    names = set(names_like(origin.stem))
    if origin.attribute is not None:
        names |= names_like(origin.attribute)
    if origin.entry_point is not None:
        names |= names_like(origin.entry_point.partition(" = ")[0])
    try:
        text = Path(_file_of(origin)).read_text("utf-8", "replace")
    except OSError:
        return frozenset(names)
    for class_name in re.findall(r"^class\s+(\w+)", text, re.MULTILINE):
        names |= names_like(class_name)
    names.update(re.findall(r"""^\s+name\b[^=\n]*=\s*["']([^"'\n]+)["']""", text, re.MULTILINE))
    names.update(re.findall(r"""def name\(self\)[^\n]*?(?::[ \t]*|\n(?:\s*(?:#|["'])[^\n]*\n)*\s*)return\s+["']([^"'\n]+)["']""", text))
    return frozenset(names)


def names_like(word: str) -> frozenset[str]:
    """Return the names by which routes may mean a file or a class."""
    return frozenset((word, kebab_case(word), snake_case(word)))
