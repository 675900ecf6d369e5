# SPDX-License-Identifier: Apache-2.0
"""The layers of the package: each imports only layers to its left, and there are no circular imports."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT_TO_RIGHT = (
    "primitives",
    "wire",
    "http",
    "records",
    "state",
    "plugin",
    "legacy",
    "process_pool",
    "call",
    "recording",
    "tracing",
    "conf_store",
    "metrics",
    "ipc",
    "worker",
    "supervisor",
)
SETTINGS = {"settings", "logging"}
UP_TO_CALL = {"errors", "primitives", "wire", "http", "records", "state", "plugin", "legacy", "call"}
ALLOWED = {
    "errors": set(),
    "settings": {"errors"},
    "logging": {"errors", "settings"},
    **{layer: {"errors", *SETTINGS, *LEFT_TO_RIGHT[:number]} for number, layer in enumerate(LEFT_TO_RIGHT)},
    "primitives": {"errors"},
    "wire": {"errors", "primitives"},
    "http": {"errors", "primitives", "wire"},
    "records": {"errors", "wire", "http"},
    "state": {"errors"},
    "supervisor": {"errors", *SETTINGS, *LEFT_TO_RIGHT[:-1], "compiled"},
    # Beside the runner: the author's names, the built-in plugins, the test kit, the development gateway, the command line.
    "compiled": set(),
    "apisix": {"compiled", "http", "state", "plugin"},
    "plugins": {"http", "plugin", "legacy", "apisix"},
    "testing": UP_TO_CALL | SETTINGS | {"apisix", "compiled"},
    "gateway": UP_TO_CALL | SETTINGS | {"apisix", "testing"},
    "cli": UP_TO_CALL | SETTINGS | {*LEFT_TO_RIGHT, "gateway", "testing", "apisix", "compiled"},
}
LAYER_OF = {"main": "cli", "__main__": "cli"}
"""Modules that belong to the layer of another name."""
OLD_IMPORT_PATHS = {"apisix.runner.plugin.base", "apisix.runner.plugin.core"}
"""Modules that only re-export names which plugins import from them."""
FILES = sorted((ROOT / "apisix").rglob("*.py"))


def layer_of(module: str) -> str:
    """Return the layer of a module. The package itself, with the author's names, is a layer too."""
    parts = [part for part in module.split(".") if part != "__init__"]
    if parts[1:2] == ["runner"]:
        del parts[1]
    name = parts[1] if len(parts) > 1 else parts[0]
    return LAYER_OF.get(name, name)


def module_of(file: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imports(tree: ast.AST, at_run_time_only: bool = False) -> Iterator[str]:
    """Yield the modules of the package that a file imports: anywhere, or only when it is executed as a module."""
    for node in ast.walk(tree) if not at_run_time_only else top_level(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements that are executed on import: not those in functions or for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from top_level(node)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - OLD_IMPORT_PATHS))
def test_imports_point_to_the_left(module: str) -> None:
    """No module imports one from a layer further to the right, not even in a function or for type checkers."""
    layer = layer_of(module)
    imported = {layer_of(name) for name in imports(ast.parse(MODULES[module].read_text("utf-8")))}
    assert set() == imported - ALLOWED[layer] - {layer}


INSIDE = {
    "apisix.gateway": ("report", "http", "routing", "runner", "phases", "resources", "server", "inspector"),
    "apisix.runner.supervisor": ("worker_pool", "listening", "shutdown"),
}
"""The parts of a package, from left to right. Its other modules may import all of them."""


@pytest.mark.parametrize(("package", "part"), [(package, part) for package, parts in INSIDE.items() for part in parts])
def test_parts_of_a_package_import_those_to_their_left(package: str, part: str) -> None:
    """Inside a package, no part imports a part to its right, or a module beside them."""
    modules = {module: file for module, file in MODULES.items() if f"{module}.".startswith(f"{package}.{part}.")}
    imported = {name for file in modules.values() for name in imports(ast.parse(file.read_text("utf-8"))) if name.startswith(f"{package}.")}
    allowed = INSIDE[package][: INSIDE[package].index(part) + 1]

    assert modules
    assert {name for name in imported if name.removeprefix(f"{package}.").partition(".")[0] not in allowed} == set()


PLUGIN = ("configuration", "loading", "chain")
"""The packages of `plugin`, from left to right. Modules beside them are to the left of all."""


@pytest.mark.parametrize("package", ["", *PLUGIN])
def test_packages_of_plugin_import_those_to_their_left(package: str) -> None:
    """No package of `plugin` imports one to its right, and the modules beside them import none of them when they are executed."""
    prefix = "apisix.runner.plugin."
    modules = {module: file for module, file in MODULES.items() if module.startswith(prefix)}
    own = [file for module, file in modules.items() if (module.removeprefix(prefix).split(".")[0] in PLUGIN) is bool(package)]
    own = [file for file in own if not package or file.parent.name == package]
    imported = {name for file in own for name in imports(ast.parse(file.read_text("utf-8")), at_run_time_only=True)}
    allowed = PLUGIN[: PLUGIN.index(package) + 1] if package else ()

    found = {name.removeprefix(prefix).partition(".")[0] for name in imported if name.startswith(prefix)}
    assert own != []
    assert found & set(PLUGIN) - set(allowed) == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    """There are no circular imports, not even inside a layer."""
    graph = {module: set(imports(ast.parse(file.read_text("utf-8")), at_run_time_only=True)) for module, file in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
