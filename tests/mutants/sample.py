# SPDX-License-Identifier: Apache-2.0
"""Which mutants there are, and a random sample of them."""

import ast
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.commands.init import init
from cosmic_ray.work_db import use_db

PACKAGES = ("wire", "http", "call", "plugin", "worker", "supervisor")
Position = tuple[int, int]


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
        """The package of the runner that the module is in."""
        return self.module.parts[2]


def draw(checkout: Path, packages: Sequence[str], size: int, seed: int) -> list[Mutant]:
    """
    Return a sample of the mutants of some packages, the same one for the same seed and sources.

    First places are drawn, then one of the mutants of each place: an operator has a dozen mutants, and would otherwise be drawn a dozen
    times as often as a condition.
    """
    modules = sorted(
        path.relative_to(checkout) for package in packages for path in (checkout / "apisix" / "runner" / package).rglob("*.py")
    )
    places: dict[tuple[str, Position, Position], list[Any]] = {}
    for spec in _specs(modules):
        places.setdefault((str(spec.module_path), spec.start_pos, spec.end_pos), []).append(spec)
    ignored = {str(module): _ignored_lines(ast.parse(module.read_text(encoding="utf-8"))) for module in modules}
    usable = sorted(key for key in places if key[1][0] not in ignored[key[0]])
    # Not used for security.
    chance = random.Random(seed)  # noqa: S311
    chosen = chance.sample(usable, min(size, len(usable)))
    return [Mutant(chance.choice(sorted(places[key], key=_order))) for key in chosen]


def _specs(modules: Iterable[Path]) -> Iterator[Any]:
    database = Path("mutants.sqlite")
    with use_db(str(database)) as work:
        init(modules, work, {})
        for item in work.work_items:
            yield from item.mutations
    os.unlink(database)


def _order(spec: Any) -> tuple[str, int]:
    return spec.operator_name, spec.occurrence


def _ignored_lines(tree: ast.Module) -> set[int]:
    """Return the lines whose mutants say nothing about tests: annotations, overloads, and imports for type checkers."""
    found: set[int] = set()
    for node in ast.walk(tree):
        found |= {line for ignored in _ignored(node) for line in range(ignored.lineno, (ignored.end_lineno or ignored.lineno) + 1)}
    return found


def _ignored(node: ast.AST) -> Iterator[Any]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        if "overload" in decorators:
            yield node
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        yield from (argument.annotation for argument in arguments if argument is not None and argument.annotation is not None)
        if node.returns is not None:
            yield node.returns
    elif (isinstance(node, ast.AnnAssign) and node.value is None) or (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ):
        yield node
