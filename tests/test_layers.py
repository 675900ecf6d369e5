# SPDX-License-Identifier: Apache-2.0
"""The layers of the house: each imports only what stands to its left. Source: design, 2."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "setting_kinds": "settings",
    "settings_file": "settings",
    "settings_plain": "settings",
    "log_repeats": "logs",
    "lean_structlog": "logs",
    "printed": "logs",
    "cli": "main",
    "__main__": "main",
}
"""Modules that belong to the layer of another name."""
UP_TO_CALL = {"errors", "wire", "http", "plugin", "call"}
SETTINGS = {"settings", "logs"}
ALLOWED = {
    "errors": set(),
    "wire": {"errors"},
    "http": {"errors", "wire"},
    "plugin": {"errors", "wire", "http"},
    "call": {"errors", "wire", "http", "plugin"},
    "server": UP_TO_CALL | SETTINGS,
    "main": UP_TO_CALL | SETTINGS | {"server", "gateway", "testing", "apisix", "compiled"},
    "settings": {"errors"},
    "logs": {"errors", "settings", "call"},  # it adds the fields of the call that runs
    # Beside the runner: the author's names, the built-in plugins, the test kit, the development gateway.
    "compiled": set(),
    "apisix": {"compiled", "http", "plugin"},
    "plugins": {"http", "plugin", "apisix"},
    "testing": UP_TO_CALL | {"apisix", "compiled"},
    "gateway": UP_TO_CALL | SETTINGS | {"apisix", "testing"},
}
FILES = sorted((ROOT / "apisix").rglob("*.py"))


def layer_of(module: str) -> str:
    """Say in which layer a module stands. The package itself, which holds the author's names, is a layer too."""
    parts = [part for part in module.split(".") if part not in ("runner", "__init__")]
    name = parts[1] if len(parts) > 1 else parts[0]
    return ROOMS.get(name, name)


def imported_by(tree: ast.AST) -> set[str]:
    """Collect the modules that a file imports anywhere, in functions and for type checkers too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in ("apisix", "apisix.runner"):
            names |= {
                node.module if alias.name[0].isupper() or alias.name == "__version__" else f"{node.module}.{alias.name}"
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert 0 == node.level, "imports are absolute"
            names.add(node.module)
    return {name for name in names if name.partition(".")[0] == "apisix"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_to_the_left(file: Path) -> None:
    """No module imports one from a layer that stands further right."""
    layer = layer_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    imported = {layer_of(module) for module in imported_by(ast.parse(file.read_text("utf-8")))}
    assert set() == imported - ALLOWED[layer] - {layer}
