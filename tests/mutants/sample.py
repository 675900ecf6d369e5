# SPDX-License-Identifier: Apache-2.0
"""Which mutants there are, and a random sample of them."""

import ast
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("wire", "http", "call", "plugin", "legacy", "worker", "supervisor")
INERT = (
    "name",
    "newline",
    "string",
    "trailer",
    "atom_expr",
    "simple_stmt",
    "expr_stmt",
    "suite",
    "param",
    "arglist",
    "tfpdef",
    "endmarker",
)
PUNCTUATION = ("(", ")", "[", "]", "{", "}", ",", ":", ".", "=", "->")
Position = tuple[int, int]
Span = tuple[Position, Position]


@dataclass(frozen=True)
class Mutant:
    """A change of one place of a module. Lines start at 1, columns at 0."""

    spec: Any
    """Cosmic Ray's description of it."""

    @property
    def module(self) -> Path:
        """The module, relative to the checkout."""
        path: Path = self.spec.module_path
        return path

    @property
    def package(self) -> str:
        """The package of the runner to which the module belongs."""
        return self.module.parts[2]


def draw(checkout: Path, packages: Sequence[str], size: int, seed: int) -> list[Mutant]:
    """
    Return a sample of the mutants of some packages, the same one for the same seed and sources.

    First, places are drawn, and then one of the mutants of each place. An operator has a dozen mutants, and would otherwise be drawn a
    dozen times as often as a condition.
    """
    modules = sorted(
        path.relative_to(checkout) for package in packages for path in (checkout / "apisix" / "runner" / package).rglob("*.py")
    )
    places: dict[tuple[str, Position, Position], list[Any]] = {}
    for spec in _specs(modules):
        places.setdefault((str(spec.module_path), spec.start_pos, spec.end_pos), []).append(spec)
    ignored = {str(module): ignored_spans(ast.parse(module.read_text(encoding="utf-8"))) for module in modules}
    usable = sorted(key for key in places if not any(start <= key[1] < end for start, end in ignored[key[0]]))
    # Not used for security.
    chance = random.Random(seed)  # noqa: S311
    chosen = chance.sample(usable, min(size, len(usable)))
    return [Mutant(chance.choice(sorted(places[key], key=_order))) for key in chosen]


def _specs(modules: Iterable[Path]) -> Iterator[Any]:
    # Imported here, because only `make mutants` installs it, and a test imports this module. Its own `init` walks each module again for
    # each operator, and writes a database.
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names
    from cosmic_ray.work_item import MutationSpec

    classes = {name: get_operator(name) for name in operator_names()}
    operators = {name: operator() for name, operator in classes.items() if not operator.arguments()}
    for module in modules:
        nodes = [node for node in ast_nodes(get_ast_from_path(module)) if not _is_inert(node)]
        for name, operator in operators.items():
            positions = (position for node in nodes for position in operator.mutation_positions(node))
            for occurrence, (start, end) in enumerate(positions):
                yield MutationSpec(module, name, occurrence, start, end)


def _is_inert(node: Any) -> bool:
    """True if no operator changes nodes like this one. Most nodes are of this kind, and there are two hundred operators."""
    return node.type in INERT or (node.type == "operator" and node.value in PUNCTUATION)


def _order(spec: Any) -> tuple[str, int]:
    return spec.operator_name, spec.occurrence


def ignored_spans(tree: ast.Module) -> list[Span]:
    """Return the places whose mutants do not show anything about tests: annotations, overloads, imports for type checkers, log texts."""
    return [
        (start_of(node), (node.end_lineno or node.lineno, node.end_col_offset or 0))
        for parent in ast.walk(tree)
        for node in _ignored(parent)
    ]


def start_of(node: Any) -> Position:
    """Return the first line of a node. Decorators belong to their function."""
    decorators = getattr(node, "decorator_list", [])
    return (decorators[0].lineno, 0) if decorators else (node.lineno, node.col_offset)


def _ignored(node: ast.AST) -> Iterator[Any]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if "overload" in [ast.unparse(decorator) for decorator in node.decorator_list]:
                yield node
            if node.returns is not None:
                yield node.returns
        case ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation):
            yield annotation
        case ast.If() if ast.unparse(node.test) == "TYPE_CHECKING":
            yield node
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=arguments) if name.endswith("logger"):
            yield from arguments
