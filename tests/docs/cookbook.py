# SPDX-License-Identifier: Apache-2.0
"""Write docs/guides/cookbook.md from the docstrings of the examples and from their routes: `python -m tests.docs.cookbook`."""

import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from apisix.runner.plugin.naming import kebab_case
from tests.docs.pages import CHECKOUT, DOCS

PAGE: Final = DOCS / "guides" / "cookbook.md"
EXAMPLES: Final = CHECKOUT / "examples"
HEAD: Final = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Generated from the docstrings of examples/plugins by `make docs`. -->
# Cookbook

Plugins to copy, grouped by task. Each is one file with one idea, and has a test. Each recipe lists keywords, so that a search of this page
finds it by the words that you would type into a search engine.

Copy the file into your `plugins/`, install the packages that its docstring names, and adapt it. [Examples](../../examples/README.md)
describes how to try all of them in the development gateway. [Write plugins](write.md) explains the API.
"""
TASKS: Final = {
    "Authentication": "find out who calls",
    "Authorization": "decide whether a call is allowed",
    "Validation": "refuse requests that the upstream should not see",
    "Bodies": "change what the upstream gets",
    "Responses": "change, mask or cache what the client gets",
    "Traffic": "limit, route and test",
    "AI gateway": "for language models behind the gateway",
}
"""The groups of the page, in order, and what they are about."""


@dataclass(frozen=True)
class Recipe:
    """
    An example.

    Attributes:
        plugins: the names of its plugins, with the configuration of each one in examples/apisix.yaml.
        text: its docstring, without the two lines at its end, `Task:` and `Keywords:`.
    """

    file: Path
    plugins: dict[str, Any]
    text: str
    task: str
    keywords: str


@cache
def recipes() -> list[Recipe]:
    """Return all examples. Raise ValueError if the docstring of one does not have its task and its keywords at the end."""
    routes = yaml.safe_load((EXAMPLES / "apisix.yaml").read_text(encoding="utf-8"))["routes"]
    confs: dict[str, Any] = {}
    for entry in (entry for route in routes for plugin in route["plugins"].values() for entry in plugin["conf"]):
        confs.setdefault(entry["name"], json.loads(entry["value"] or "{}"))
    found = []
    for file in sorted((EXAMPLES / "plugins").glob("[!_]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        end = re.fullmatch(r"(.+)\n\nTask: (.+)\nKeywords: (.+)", ast.get_docstring(tree) or "", re.DOTALL)
        if end is None or end[2] not in TASKS:
            raise ValueError(f"{file}: the docstring must end with a line `Task:`, one of {list(TASKS)}, and a line `Keywords:`")
        names = [kebab_case(node.name) for node in tree.body if isinstance(node, ast.ClassDef)]
        plugins = {name: confs[name] for name in names if name in confs}
        found.append(Recipe(file, plugins, end[1], end[2], " ".join(end[3].split())))
    return found


def page() -> str:
    """Return the text of docs/guides/cookbook.md."""
    parts = [HEAD]
    for task, about in TASKS.items():
        links = ", ".join(f"[{_title(recipe)}](#{_anchor(recipe)})" for recipe in recipes() if recipe.task == task)
        parts.append(f"- **{task}** ({about}): {links}")
    for task in TASKS:
        parts.append(f"\n## {task}")
        parts += [_recipe(recipe) for recipe in recipes() if recipe.task == task]
    return "\n".join(parts) + "\n"


def _recipe(recipe: Recipe) -> str:
    confs = "\n".join(json.dumps({"name": name, "value": conf}, ensure_ascii=False) for name, conf in recipe.plugins.items())
    stem = recipe.file.stem
    links = f"[Code](../../examples/plugins/{stem}.py), [test](../../examples/tests/test_{stem}.py). Keywords: {recipe.keywords}."
    return f"\n### {_title(recipe)}\n\n{recipe.text}\n\n```json\n{confs}\n```\n\n{links}"


def _title(recipe: Recipe) -> str:
    return ", ".join(recipe.plugins)


def _anchor(recipe: Recipe) -> str:
    return _title(recipe).replace(", ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
