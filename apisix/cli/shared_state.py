# SPDX-License-Identifier: Apache-2.0
"""Find lines where a hook assigns an attribute of `self`, which all calls of a route share."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from apisix.runner.plugin.loading.check import HOOKS
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin import Plugin

Method = tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]
"""A method, and the file that contains it."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """A line that assigns an attribute."""

    file: str
    line: int
    method: str
    attribute: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.method} assigns self.{self.attribute}. All calls of a route share the instance, "
            "so the call of another client can read or replace the value. Use a local variable or request.context; "
            "if calls should share it, as a cache or a counter, add the attribute to shared_state of the class"
        )


def assigned_attributes(registry: Registry) -> list[Assigned]:
    """
    Return the assignments to `self` in hooks, and in methods of the class that hooks use.

    Assignments in other classes are not found. Changes of an object, as in `self.seen.append(...)`, are not found either.
    """
    found: dict[Assigned, None] = {}
    for plugin in registry.types:
        if not plugin.api.is_legacy:
            found.update(dict.fromkeys(_in_class(plugin.cls)))
    return list(found)


def _in_class(cls: Any) -> Iterator[Assigned]:
    methods = _methods_of(cls)
    names = [hook for hook in HOOKS if hook in methods]
    for name in names:  # methods are appended to the list in the loop
        function, file = methods[name]
        arguments = [*function.args.posonlyargs, *function.args.args]
        if not arguments:
            continue
        for node in ast.walk(function):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == arguments[0].arg):
                continue
            if isinstance(node.ctx, ast.Load):
                if node.attr in methods and node.attr not in names:
                    names.append(node.attr)
            elif node.attr not in cls.shared_state:
                yield Assigned(file, node.lineno, f"{cls.__name__}.{name}", node.attr)


def _methods_of(cls: type) -> dict[str, Method]:
    """Return the methods that are written in Python. Methods of the class replace those of its bases."""
    methods: dict[str, Method] = {}
    for owner in cls.__mro__:
        if owner in (Plugin, Generic, object):
            continue
        try:
            file = inspect.getfile(owner)
            tree = ast.parse(Path(file).read_bytes())
        except (OSError, TypeError, SyntaxError, ValueError):  # created at run time, or compiled
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
                for item in node.body:
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                        methods.setdefault(item.name, (item, file))
    return methods
