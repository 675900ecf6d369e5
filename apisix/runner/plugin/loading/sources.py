# SPDX-License-Identifier: Apache-2.0
"""Find the modules that contain plugins, and import them: built-in ones, directories, modules on the path and entry points."""

from __future__ import annotations

import ast
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

from apisix.runner.plugin.loading.check import api_by_looks, is_plugin_class
from apisix.runner.plugin.loading.sibling_modules import PREFIX, open_package
from apisix.runner.plugin.naming import kebab_case, snake_case, words_of
from apisix.runner.plugin.plugin_type import Problem, Source, SourceKind

BUILTIN_PACKAGE = "apisix.plugins"
ENTRY_POINT_GROUP = "apisix.plugins"
_MODULE_AND_CLASS = re.compile(r"(?P<module>\w+(?:\.\w+)*)(?:\s*:\s*(?P<attribute>\w+(?:\.\w+)*))?\s*(?:\[.*\])?\s*")


@dataclass(frozen=True, slots=True)
class Origin:
    """
    A module that may contain plugins and is not imported yet.

    Attributes:
        kind: how it was found.
        module: its dotted name.
        file: the file to open if the import fails.
        attribute: the class in the module, if an entry point names one.
        entry_point: the text of the entry point, if there is one.
    """

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
    A class of a module that is a plugin or looks like one.

    Attributes:
        cls: the class.
        source: where it is defined.
        stem: the name of the file without suffix if routes may use it for this class, else None.
        names: if the class only looks like a plugin, the names that routes may use for it; else None.
    """

    cls: type
    source: Source
    stem: str | None
    names: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """
    A module that could not be imported.

    Attributes:
        problem: why.
        names: the names that routes may use for its plugins. They are guessed from the file.
        kind: how it was found.
    """

    problem: Problem
    names: frozenset[str]
    kind: SourceKind


def builtin_origins() -> Iterator[Origin]:
    """Yield the modules of `apisix.plugins`."""
    package = importlib.import_module(BUILTIN_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        yield Origin("builtin", f"{BUILTIN_PACKAGE}.{module.name}", str(Path(package.__path__[0], f"{module.name}.py")))


def directory_origins(directory: Path) -> Iterator[Origin | NotLoaded]:
    """Yield the files and packages of a directory, except those whose name begins with an underscore or a dot."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        reason = f"the directory of plugins can't be read: {error.strerror}"
        advice = "Create it, or correct the path in the settings or in --plugins"
        if isinstance(error, NotADirectoryError):
            advice = "Use the directory that contains the file"
        problem = Problem(None, str(directory), 0, reason, advice)
        yield NotLoaded(problem, frozenset(), "directory")
        return
    package = open_package(directory)
    for entry in entries:
        file = entry / "__init__.py" if entry.is_dir() else entry
        if entry.name.startswith(("_", ".")) or file.suffix != ".py" or not file.is_file():
            continue
        if "." in entry.stem:
            problem = Problem(None, str(file), 0, "the name of the file contains a dot, so it can't be imported as a module", "Rename it")
            yield NotLoaded(problem, names_like(entry.stem), "directory")
            continue
        yield Origin("directory", f"{package}.{entry.stem}", str(file))


def module_origin(name: str) -> Origin:
    """Return the origin of a module on the path, `package.module`."""
    return Origin("module", name, name)


def entry_point_origins() -> Iterator[Origin | NotLoaded]:
    """Yield the entry points of installed distributions in the group `apisix.plugins`."""
    from importlib.metadata import entry_points  # imported only if it is used, because the import is slow

    for point in entry_points(group=ENTRY_POINT_GROUP):
        distribution = f"the distribution {point.dist.name}" if point.dist else "an unknown distribution"
        label = f"{point.name} = {point.value} in the group {point.group} of {distribution}"
        # Parsed here, because EntryPoint treats an invalid value differently in different versions of Python.
        value = _MODULE_AND_CLASS.fullmatch(point.value)
        if value is not None:
            yield Origin("entry point", value["module"], point.value, value["attribute"], label)
        else:
            problem = Problem(None, point.value, 0, "it does not name a module", "Write it as package.module:Class", label)
            yield NotLoaded(problem, names_like(point.name), "entry point")


def load(origin: Origin) -> list[Loaded] | NotLoaded:
    """
    Import a module and return the plugin classes that it defines. If it is a package, its submodules are included.

    Classes that look like plugins, but do not derive from a plugin class, are returned too. They have `names`.
    """
    try:
        module = importlib.import_module(origin.module)
        values: Iterable[object] = vars(module).values()
        if origin.attribute is not None:
            values = [_attribute_of(module, origin.attribute)]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit at import must not end the runner
        return NotLoaded(replace(_import_problem(origin, error), entry_point=origin.entry_point), _names_in(origin), origin.kind)

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
        if all(is_own(base) for base in cls.__mro__[1:-1]) and api_by_looks(cls) is not None
    ]
    if not loaded and origin.kind in ("module", "entry point"):
        advice = "Name a class that derives from apisix.Plugin and does not begin with _, or the module in which one is defined"
        problem = Problem(None, _file_of(origin), 0, "it contains no plugin class", advice, origin.entry_point)
        return NotLoaded(problem, _names_in(origin), origin.kind)
    return loaded


def _attribute_of(module: ModuleType, dotted: str) -> object:
    """Return the attribute that an entry point names after its colon."""
    value: object = module
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def _source_of(cls: type, origin: Origin) -> Source:
    """Return where a class is defined."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or origin.file
    try:
        line = inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        line = 1
    return Source(origin.kind, file, line, cls.__module__, origin.entry_point)


def _import_problem(origin: Origin, error: BaseException) -> Problem:
    """Return the problem of a module that could not be imported, with the line of the author's code that failed."""
    file, line = _author_line(origin, error)
    text = re.sub(rf"{PREFIX}\w+\.", "", f"{type(error).__name__}: {error}".rstrip(": "))
    if isinstance(error, SyntaxError):
        return Problem(None, file, line, f"it can't be compiled: {error.msg}", "Correct the syntax")
    if isinstance(error, ModuleNotFoundError):
        missing = error.name or ""
        if origin.kind != "directory" and (origin.module == missing or origin.module.startswith(missing + ".")):
            advice = "Correct its name, install it, or add its directory to PYTHONPATH"
            return Problem(None, file, line, f"there is no module {missing}", advice)
        missing = missing.rpartition(".")[2] if missing.startswith(PREFIX) else missing
        described = _described_install(file)
        if described is not None:  # the package can have another name than the module, as PyJWT has
            return Problem(None, file, line, f"it imports {missing}, which is missing", f"Its docstring describes: {described}")
        advice = f"Install {missing.partition('.')[0]} for {sys.executable}, put it next to the plugin, or correct the import"
        return Problem(None, file, line, f"it imports {missing}, which is missing", advice)
    if isinstance(error, SystemExit):
        return Problem(
            None,
            file,
            line,
            f"it exits while it is imported ({text})",
            "A plugin module must only define functions and classes when it is imported",
        )
    return Problem(None, file, line, f"it can't be imported: {text}", "Correct that line")


def _described_install(file: str) -> str | None:
    """Return the command `pip install ...` that the docstring of a file contains in backticks, or None."""
    try:
        docstring = ast.get_docstring(ast.parse(Path(file).read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        return None
    found = re.search(r"`(pip\s+install\s[^`]+)`", docstring)
    return None if found is None else " ".join(found[1].split())


def _author_line(origin: Origin, error: BaseException) -> tuple[str, int]:
    """Return the file and line of the last frame of a traceback that is in the plugin's own directory."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 1
    file = _file_of(origin)
    if not Path(file).is_file():  # the module is missing
        return file, 0
    root = str(Path(file).resolve().parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if str(Path(frame.filename).resolve()).startswith(root + "/")]
    return (own[-1].filename, own[-1].lineno or 1) if own else (file, 1)


def _file_of(origin: Origin) -> str:
    """Return the file of a module that could not be imported."""
    if origin.kind in ("builtin", "directory"):
        return origin.file
    try:
        spec = importlib.util.find_spec(origin.module)
    except Exception:  # a parent package can't be imported either
        spec = None
    return (spec.origin if spec else None) or origin.file


def _names_in(origin: Origin) -> frozenset[str]:
    """
    Guess the names of the plugins in a file that can't be imported.

    The file is searched by line, because it may not be valid Python.
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
    """Return the names that routes may use for a file or a class."""
    return frozenset((word, kebab_case(word), snake_case(word)))
