# SPDX-License-Identifier: Apache-2.0
"""
Builds the compiled engine: extension modules, each merged from the Python sources that `apisix/compiled/__init__.py` lists for it.

Cython compiles the sources as they are, with the C declarations in the `.pxd` files beside them. They are merged so that their classes and
functions refer to each other directly. The environment variable APISIX_RUNNER_BUILD decides whether this happens: `auto` builds if there is
a C compiler, and else leaves a package that runs the Python sources; `require` fails instead; `never` does not build. The default is
`auto`, and `never` for an editable install, which `make accelerate` builds.

Everything else about this package is in pyproject.toml.
"""

import ast
import os
import re
import sys
from pathlib import Path
from runpy import run_path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

# By its path: importing the package would take whatever is installed.
ROOT = Path(__file__).parent
EXTENSIONS: dict[str, tuple[str, ...]] = run_path(str(ROOT / "apisix" / "compiled" / "__init__.py"))["EXTENSIONS"]
BUILD = Path("build/cython")
VARIABLE = "APISIX_RUNNER_BUILD"
HOME = {source: name for name, sources in EXTENSIONS.items() for source in sources}


class BuildEngine(build_ext):
    """Compiles the engine in parallel; unless it is required, a failure leaves a package of Python sources."""

    def finalize_options(self) -> None:
        """Use all processors unless the caller has chosen a number."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count() or 1

    def run(self) -> None:
        """Compile all extension modules or none."""
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError) as error:
            if mode() == "require":
                raise
            say(f"The engine could not be compiled ({str(error).splitlines()[0]}).")
            self.extensions = []
        for extension in self.extensions:
            # Also if nothing had to be compiled again: a checkout compares this time with those of its sources.
            Path(self.get_ext_fullpath(extension.name)).touch()


def mode() -> str:
    """Return what APISIX_RUNNER_BUILD says."""
    chosen = os.environ.get(VARIABLE) or ("never" if "editable_wheel" in sys.argv else "auto")
    if chosen not in ("auto", "require", "never"):
        sys.exit(f"{VARIABLE} must be auto, require or never, and is {chosen!r}")
    return chosen


def say(what: str) -> None:
    """Print why the Python sources will run, and what to do about it."""
    print(
        f"{what} The Python sources will run, which is slower. To compile it, install a C compiler and Python's headers "
        f"(Debian: gcc python3-dev) and install again. {VARIABLE}=require makes a failure an error.",
        file=sys.stderr,
    )


def extensions() -> list[Extension]:
    """Return the extension modules to build, none if that is not wanted or Cython is missing."""
    if mode() == "never":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError as error:
        if mode() == "require":
            raise
        say(f"The engine could not be compiled: {error}.")
        return []
    listed = [Extension(f"apisix.compiled.{name}", [str(merge(name))], extra_compile_args=["-g0"]) for name in EXTENSIONS]
    compiled: list[Extension] = cythonize(
        listed,
        # Annotations are for mypy: IntEnum is an `int` to it, but not to Cython.
        compiler_directives={"language_level": 3, "annotation_typing": False, "auto_pickle": False},
        include_path=[str(BUILD), "."],
    )
    return compiled


def merge(name: str) -> Path:
    """
    Write the merged source of an extension module, and its declarations, and return the path of the former.

    Imports between parts are dropped, since their names are in the same module.
    """
    sources = EXTENSIONS[name]
    directory = BUILD / "apisix" / "compiled"
    defined: dict[str, str] = {}
    declared: set[str] = set()
    files = [Path(source.replace(".", "/") + ".py") for source in sources]
    declarations = [file.with_suffix(".pxd") for file in files]
    write(directory / f"{name}.pxd", "".join(part_declarations(file, sources, declared) for file in declarations if file.exists()))
    return write(directory / f"{name}.py", "".join(part(file, sources, defined) for file in files))


def part(file: Path, sources: tuple[str, ...], defined: dict[str, str]) -> str:
    """
    Return the text of a source as a part of its extension module.

    Args: defined: the names defined by the parts before, each with the statement that defines it. Those of this one are added.
    Raises: SystemExit: two parts define one name differently.
    """
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if is_dropped(node, sources) or is_repeated(node, file, defined):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)  # type: ignore[operator]
        elif isinstance(node, ast.ImportFrom) and node.module in HOME:
            # Under the name that the declarations use, or Cython takes it for another object.
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace(node.module, f"apisix.compiled.{HOME[node.module]}", 1)
    return "\n".join(lines) + "\n"


def is_dropped(node: ast.stmt, sources: tuple[str, ...]) -> bool:
    """Return whether a statement has no place in a merged module: imports from other parts, and those for type checkers."""
    if isinstance(node, ast.ImportFrom):
        if any(f"{node.module}.{each.name}" in HOME for each in node.names):
            sys.exit(f"`{ast.unparse(node)}` imports a part of the engine as a module: import names from it instead")
        return node.module in sources
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def is_repeated(node: ast.stmt, file: Path, defined: dict[str, str]) -> bool:
    """
    Return whether an earlier part contains the same definition, such as that of a type variable.

    Raises: SystemExit: it uses a name for something else, or for a value that can change.
    """
    bindings = bound_by(node)
    is_shareable = re.search(r": Final| = TypeVar\(|import ", ast.unparse(node))
    repeated = False
    for name, text in bindings.items():
        if name in defined:
            if defined[name] != text or not is_shareable:
                sys.exit(f"{file} uses the name {name} for something else than an earlier part of its extension module: rename one of them")
            repeated = True
        defined[name] = text
    return repeated and not isinstance(node, (ast.Import, ast.ImportFrom))


def bound_by(node: ast.stmt) -> dict[str, str]:
    """Return the names that a statement defines or imports, each with a text that is the same for the same object."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {node.name: ast.unparse(node)}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {target.id: ast.unparse(node) for target in targets if isinstance(target, ast.Name)}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        module = node.module if isinstance(node, ast.ImportFrom) else ""
        return {(each.asname or each.name).partition(".")[0]: f"import {module} {each.name}" for each in node.names}
    return {}


def part_declarations(file: Path, sources: tuple[str, ...], declared: set[str]) -> str:
    """
    Return the C declarations of a source as a part of those of its extension module.

    Args: declared: the variables declared by the parts before. Those of this one are added.
    """

    def moved(found: re.Match[str]) -> str:
        module, names = found.groups()
        if module in sources:
            return ""
        return f"from {f'apisix.compiled.{HOME[module]}' if module in HOME else module} cimport {names}"

    text = re.sub(r"^from (apisix\.[\w.]+) cimport (\([^)]*\)|.*)$", moved, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = []
    for line in text.splitlines():
        is_variable = re.fullmatch(r"cdef \w+ \w+", line) is not None
        lines.append("" if is_variable and line in declared else line)
        if is_variable:
            declared.add(line)
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> Path:
    """Write a file unless it has this content: its time of change decides what is compiled again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


options: dict[str, Any] = {"ext_modules": extensions(), "cmdclass": {"build_ext": BuildEngine}}
setup(**options)
