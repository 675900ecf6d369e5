# SPDX-License-Identifier: Apache-2.0
"""
Build the compiled engine: extension modules, each merged from the Python sources that `apisix/compiled/__init__.py` lists for it.

Cython compiles the sources as they are, with the C declarations in the `.pxd` files beside them. They are merged so that their classes and
functions refer to each other directly. The environment variable APISIX_RUNNER_BUILD decides whether this happens:

- `auto`, the default, builds if there is a C compiler with Python's headers. If not, the package contains the Python sources only.
- `require` fails instead. Wheels and continuous integration use it.
- `never` does not build.

CFLAGS replaces the compiler's options that are chosen here. Everything else about this package is in pyproject.toml.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from runpy import run_path
from typing import Any, TypeGuard

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError

# By its path: importing the package would import whatever is installed.
ROOT = Path(__file__).parent
EXTENSIONS: dict[str, tuple[str, ...]] = run_path(str(ROOT / "apisix" / "compiled" / "__init__.py"))["EXTENSIONS"]
BUILD = Path("build/cython")
VARIABLE = "APISIX_RUNNER_BUILD"
HOME = {source: name for name, sources in EXTENSIONS.items() for source in sources}
INLINING = ["max-inline-insns-single=200", "max-inline-insns-auto=30", "inline-min-speedup=15"]
FLAGS = ["-O2", *(f"--param={parameter}" for parameter in INLINING), "-fno-plt", "-g0", "-w"]
"""Compiled in much less time than with -O3, of which only the inlining matters here. Warnings are off because Cython causes many."""


class BuildEngine(build_ext):
    """Compile the engine in parallel. Unless it is required, a failure leaves a package of Python sources."""

    def finalize_options(self) -> None:
        """Use all processors unless the caller has chosen a number."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count() or 1
        self.is_in_checkout = bool(self.inplace)  # setuptools changes `inplace` while it builds
        self.checked: list[Extension] = []

    def is_current(self, extension: Extension) -> bool:
        """Return whether the extension module in the checkout was compiled from the present C file, with the present flags."""
        built = Path(self.get_ext_filename(extension.name))
        flags = write(self.flags_file(extension), " ".join([*extension.extra_compile_args, os.environ.get("CFLAGS", "")]))
        return built.exists() and all(Path(file).stat().st_mtime <= built.stat().st_mtime for file in (*extension.sources, flags))

    @staticmethod
    def flags_file(extension: Extension) -> Path:
        """Return the path of the file that records the compiler's flags for an extension module."""
        return BUILD / f"{extension.name}.flags"

    def run(self) -> None:
        """Compile all extension modules or none."""
        began = time.time()
        super().run()
        for extension in self.checked:
            # A checkout compares this time with those of its sources, also of those that were edited without effect on the C file. One
            # that is edited while this runs may have been read before.
            # The other files get the same time, or the next build would take them for newer and compile again.
            for file in (*extension.sources, self.flags_file(extension), self.get_ext_fullpath(extension.name)):
                os.utime(file, (began, began))

    def build_extensions(self) -> None:
        """Translate the sources to C and compile them, if the compiler works. Called by `run`, when the compiler is chosen."""
        try:
            try_to_compile([*self.compiler.compiler_so, *(f"-I{directory}" for directory in self.compiler.include_dirs)])
            translate(self.extensions, self.parallel)
            # distutils compares with the file in its build directory, which may come from other sources. It must not decide.
            self.force = True
            if self.is_in_checkout:
                self.checked = self.extensions
                self.extensions = [extension for extension in self.extensions if not self.is_current(extension)]
            super().build_extensions()
        except (CCompilerError, ImportError) as error:
            needs = "a C compiler and Python's headers (Debian: gcc python3-dev)"
            if mode() == "require":
                sys.exit(f"The engine could not be compiled, and {VARIABLE} is `require`: {error}. It needs {needs}.")
            print(
                f"The pure Python fallback will be used, because the engine could not be compiled: {error}. To compile it, install "
                f"{needs}, and install again.",
                file=sys.stderr,
            )
            self.extensions = self.checked = []


def mode() -> str:
    """Return what APISIX_RUNNER_BUILD is set to."""
    chosen = os.environ.get(VARIABLE) or "auto"
    if chosen not in ("auto", "require", "never"):
        sys.exit(f"{VARIABLE} must be auto, require or never, and is {chosen!r}")
    return chosen


def try_to_compile(command: list[str]) -> None:
    """Raise CompileError if the command of the C compiler is missing, or does not find Python's headers."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "headers.c")
        source.write_text("#include <Python.h>\n")
        try:
            done = subprocess.run(  # noqa: S603  # the compiler that the caller chose
                [*command, "-c", str(source), "-o", f"{source}.o"], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise CompileError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        problem = re.search(r".*\berror\b.*", done.stderr)
        raise CompileError(problem[0] if problem else f"{command[0]} failed with status {done.returncode}")


def extensions() -> list[Extension]:
    """Return the extension modules, the largest first so that they share the processors well; none if they are not wanted."""
    if mode() == "never":
        return []
    flags = [] if os.environ.get("CFLAGS") else FLAGS
    merged = sorted((merge(name) for name in EXTENSIONS), key=lambda source: source.stat().st_size, reverse=True)
    return [Extension(f"apisix.compiled.{source.stem}", [str(source)], extra_compile_args=flags) for source in merged]


def translate(extensions: list[Extension], processes: int) -> None:
    """
    Translate the sources of extension modules to C, and make the C files their sources.

    Raises: ImportError: Cython is not installed. CompileError of Cython: a source is wrong.
    """
    from Cython.Build import cythonize

    translated = cythonize(
        extensions,
        nthreads=processes,
        quiet=True,
        # Annotations are for mypy: IntEnum is an `int` to it, but not to Cython.
        compiler_directives={"language_level": 3, "annotation_typing": False, "auto_pickle": False},
        include_path=[str(BUILD), "."],
    )
    for extension, each in zip(extensions, translated, strict=True):
        extension.sources = each.sources


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
        elif is_for_type_checkers(node):
            # Its `else` branch at the top level, because a class of C can't be defined in a branch.
            start = node.orelse[0].lineno - 1
            lines[start : node.end_lineno] = textwrap.dedent("\n".join(lines[start : node.end_lineno])).split("\n")
            lines[node.lineno - 1 : start] = [""] * (start - node.lineno + 1)
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
    if is_for_type_checkers(node):
        return not node.orelse
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def is_for_type_checkers(node: ast.stmt) -> TypeGuard[ast.If]:
    """Return whether a statement is `if TYPE_CHECKING:`, perhaps with an `else` branch."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


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


# Without this, processes that Cython starts to work for it would run the setup again.
if __name__ == "__main__":
    options: dict[str, Any] = {"ext_modules": extensions(), "cmdclass": {"build_ext": BuildEngine}}
    setup(**options)
