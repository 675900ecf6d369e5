# SPDX-License-Identifier: Apache-2.0
"""
Import the files of a plugin directory, each directory as a package of its own.

Two directories may hold files of one name, and a file may be called like a library (`redis.py`), so their modules can't
stand at the top level. `DIR/key_auth.py` becomes `apisix_plugins_<DIR's name>_<hash>.key_auth`. Relative imports work by
that alone. For plain ones (`from mylib import x`, with a DIR/mylib.py) the import statement is rewritten to the package's
module as the file is compiled, which, unlike an entry in `sys.path`, concerns this directory's files and nobody else.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

logger = logging.getLogger(__name__)

PREFIX = "apisix_plugins_"


def package_of(directory: Path) -> str:
    """Name the package that a directory becomes. The same directory always gets the same name."""
    path = directory.resolve()
    readable = re.sub(r"\W", "_", path.name)
    return f"{PREFIX}{readable}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"


def open_package(directory: Path) -> str:
    """
    Make a directory's files importable, and return the name of their package.

    What was imported from it before is forgotten, so that the files are read as they are now.
    """
    package = package_of(directory)
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
    module = ModuleType(package, f"The plugins of {directory}.")
    module.__path__ = [str(directory.resolve())]
    sys.modules[package] = module
    if not any(isinstance(finder, NeighbourFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, NeighbourFinder())
    importlib.invalidate_caches()
    return package


def importable_names(directory: Path) -> set[str]:
    """Collect what files of a directory may import from it: its modules and packages."""
    names = {path.stem for path in directory.glob("*.py")}
    return names | {path.parent.name for path in directory.glob("*/__init__.py")}


class NeighbourFinder:
    """A finder for `sys.meta_path`: finds the modules of plugin directories, and has them loaded by NeighbourLoader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module below one of our packages, None for all others."""
        if not fullname.startswith(PREFIX):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = NeighbourLoader(fullname, spec.loader.path)
            spec.cached = None
        return spec


class NeighbourLoader(importlib.machinery.SourceFileLoader):
    """Compiles a file with its imports of neighbours rewritten."""

    def get_code(self, fullname: str) -> CodeType:
        """
        Compile the file.

        A bytecode cache is neither read nor written: it would be wrong for those who import the file by another name, and it
        takes a file for unchanged that is saved twice within a second.
        """
        package = fullname.partition(".")[0]
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        names = importable_names(Path(sys.modules[package].__path__[0])) - sys.stdlib_module_names
        if not self.is_package(fullname):
            names.discard(fullname.removeprefix(package + "."))  # DIR/redis.py, which imports redis, means the library
        rewriter = _ImportRewriter(package, names)
        tree = ast.fix_missing_locations(rewriter.visit(tree))
        for name, line in rewriter.used.items():
            _tell_of_library(path, line, name)
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code


def _tell_of_library(path: str, line: int, name: str) -> None:
    """Warn where a neighbour has the name of a library that is installed, which may have been meant."""
    try:
        library = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module of that name that is broken, or was put there by a test
        return
    if library is not None:
        logger.warning(
            "%s:%d: this imports %s, and gets the file of that name beside it, not the library. Rename the file if the library is meant",
            path,
            line,
            name,
        )


class _ImportRewriter(ast.NodeTransformer):
    """
    Puts the package before the names of neighbours in import statements.

    Attributes: used: the neighbours that are imported, with the first line that does.
    """

    def __init__(self, package: str, names: set[str]) -> None:
        self._package = package
        self._names = names
        self.used: dict[str, int] = {}

    def _is_neighbour(self, module: str | None, line: int) -> bool:
        name = (module or "").partition(".")[0]
        if name not in self._names:
            return False
        self.used.setdefault(name, line)
        return True

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Rewrite `from mylib import x` to `from <package>.mylib import x`."""
        if node.level == 0 and self._is_neighbour(node.module, node.lineno):
            node.module = f"{self._package}.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """Rewrite `import mylib` to `from <package> import mylib`, and the dotted and renamed forms alike."""
        statements: list[ast.stmt] = []
        for alias in node.names:
            if not self._is_neighbour(alias.name, node.lineno):
                statements.append(ast.Import([alias]))
                continue
            parent, _, last = alias.name.rpartition(".")
            if parent:  # binds the first name without `as`, the last with it; the submodule is imported in both cases
                bound = alias.asname or "_"
                statements.append(ast.ImportFrom(f"{self._package}.{parent}", [ast.alias(last, bound)], 0))
                if alias.asname:
                    continue
            first = alias.name.partition(".")[0]
            statements.append(ast.ImportFrom(self._package, [ast.alias(first, None if parent else alias.asname)], 0))
        return [ast.copy_location(statement, node) for statement in statements]
