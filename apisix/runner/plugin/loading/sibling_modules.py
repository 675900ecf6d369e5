# SPDX-License-Identifier: Apache-2.0
"""
Import the files of a plugin directory. Each directory is imported as its own package.

Two directories can contain files of the same name, and a file can have the name of a library (`redis.py`). So the files can't be imported
as top-level modules. `DIR/key_auth.py` is imported as `apisix_plugins_<name of DIR>_<hash>.key_auth`. Relative imports then work. An
absolute import of a sibling module (`from mylib import x`, if there is a DIR/mylib.py) is rewritten when the file is compiled. Unlike an
entry in `sys.path`, this affects only the files of the directory.
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
    """Return the name of the package as which a directory is imported. It is always the same for a directory."""
    path = directory.resolve()
    readable = re.sub(r"\W", "_", path.name)
    return f"{PREFIX}{readable}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"


def open_package(directory: Path) -> str:
    """
    Make the files of a directory importable, and return the name of their package.

    Modules that were imported from it before are removed, so that the files are read again.
    """
    package = package_of(directory)
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
    module = ModuleType(package, f"The plugins of {directory}.")
    module.__path__ = [str(directory.resolve())]
    sys.modules[package] = module
    if not any(isinstance(finder, SiblingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, SiblingFinder())
    importlib.invalidate_caches()
    return package


def importable_names(directory: Path) -> set[str]:
    """Return the names of the modules and packages in a directory."""
    names = {path.stem for path in directory.glob("*.py")}
    return names | {path.parent.name for path in directory.glob("*/__init__.py")}


class SiblingFinder:
    """Finds the modules of plugin directories, which SiblingLoader loads. For `sys.meta_path`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module in a plugin directory, or None for all other modules."""
        if not fullname.startswith(PREFIX):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = SiblingLoader(fullname, spec.loader.path)
            spec.cached = None
        return spec


class SiblingLoader(importlib.machinery.SourceFileLoader):
    """Compiles a file, and rewrites its imports of sibling modules."""

    def get_code(self, fullname: str) -> CodeType:
        """
        Compile the file.

        The bytecode cache is neither read nor written. It would be wrong if the file is imported under another name, and a file that is
        saved twice within a second would be considered unchanged.
        """
        package = fullname.partition(".")[0]
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        names = importable_names(Path(sys.modules[package].__path__[0])) - sys.stdlib_module_names
        if not self.is_package(fullname):
            names.discard(fullname.removeprefix(package + "."))  # an import of redis in DIR/redis.py means the library
        rewriter = _ImportRewriter(package, names)
        tree = ast.fix_missing_locations(rewriter.visit(tree))
        for name, line in rewriter.used.items():
            _warn_of_library(path, line, name)
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code


def _warn_of_library(path: str, line: int, name: str) -> None:
    """Warn if a sibling module has the name of an installed library, because the author may have meant the library."""
    try:
        library = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # the module is incomplete, as modules in tests can be
        return
    if library is not None:
        logger.warning(
            "%s:%d: this imports %s from the file of that name in the plugin directory, not the library. Rename the file if you mean "
            "the library",
            path,
            line,
            name,
        )


class _ImportRewriter(ast.NodeTransformer):
    """
    Adds the package to the names of sibling modules in import statements.

    Attributes: used: the imported sibling modules, each with the first line that imports it.
    """

    def __init__(self, package: str, names: set[str]) -> None:
        self._package = package
        self._names = names
        self.used: dict[str, int] = {}

    def _is_sibling(self, module: str | None, line: int) -> bool:
        name = (module or "").partition(".")[0]
        if name not in self._names:
            return False
        self.used.setdefault(name, line)
        return True

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Rewrite `from mylib import x` to `from <package>.mylib import x`."""
        if node.level == 0 and self._is_sibling(node.module, node.lineno):
            node.module = f"{self._package}.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """Rewrite `import mylib` to `from <package> import mylib`, and imports with dots or `as` in the same way."""
        statements: list[ast.stmt] = []
        for alias in node.names:
            if not self._is_sibling(alias.name, node.lineno):
                statements.append(ast.Import([alias]))
                continue
            parent, _, last = alias.name.rpartition(".")
            if parent:  # without `as`, the first name is bound; with it, the last one. The submodule is imported in both cases.
                bound = alias.asname or "_"
                statements.append(ast.ImportFrom(f"{self._package}.{parent}", [ast.alias(last, bound)], 0))
                if alias.asname:
                    continue
            first = alias.name.partition(".")[0]
            statements.append(ast.ImportFrom(self._package, [ast.alias(first, None if parent else alias.asname)], 0))
        return [ast.copy_location(statement, node) for statement in statements]
