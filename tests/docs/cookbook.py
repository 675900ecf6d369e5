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

To use one:

1. Copy the file into your `plugins/`, and adapt it. Install the packages that the recipe names.
2. Insert the configuration into your route. With the admin API, write the same as JSON.
3. Call the route. The commands below call the routes of the examples.

To try all of them first, start `apisix-runner dev` in the directory [examples](../../examples/README.md) of a checkout. It serves these
routes, with an upstream that echoes requests. Run the commands in a second terminal, in the same directory. [Write plugins](write.md)
explains the API.
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
        plugins: the names of its plugins that examples/apisix.yaml uses.
        route: the plugins of its route in examples/apisix.yaml.
        commands: those of examples/README.md that try it.
        text: its docstring, without the two lines at its end, `Task:` and `Keywords:`.
    """

    file: Path
    plugins: list[str]
    route: dict[str, Any]
    commands: list[str]
    text: str
    task: str
    keywords: str


@cache
def recipes() -> list[Recipe]:
    """Return all examples. Raise ValueError if the docstring of one does not have its task and its keywords at the end."""
    routes = yaml.safe_load((EXAMPLES / "apisix.yaml").read_text(encoding="utf-8"))["routes"]
    by_id = {route["id"]: route["plugins"] for route in routes}
    used = {entry["name"] for route in routes for plugin in route["plugins"].values() for entry in plugin["conf"]}
    found = []
    for file in sorted((EXAMPLES / "plugins").glob("[!_]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        end = re.fullmatch(r"(.+)\n\nTask: (.+)\nKeywords: (.+)", ast.get_docstring(tree) or "", re.DOTALL)
        if end is None or end[2] not in TASKS:
            raise ValueError(f"{file}: the docstring must end with a line `Task:`, one of {list(TASKS)}, and a line `Keywords:`")
        names = [kebab_case(node.name) for node in tree.body if isinstance(node, ast.ClassDef)]
        plugins = [name for name in names if name in used]
        route = file.stem.replace("_", "-")
        found.append(Recipe(file, plugins, by_id[route], _commands(route), end[1], end[2], " ".join(end[3].split())))
    return found


def _commands(route: str) -> list[str]:
    """Return the commands of examples/README.md that call a route, with those that they need."""
    for block in (EXAMPLES / "README.md").read_text(encoding="utf-8").split("\n\n"):
        lines = [re.sub(" {2,}#", "  #", line[4:]) for line in block.splitlines() if line.startswith("    ")]
        calls = [line for line in lines if f"127.0.0.1:9080/{route} " in line + " "]
        if calls:
            return calls if all(line.startswith("curl") for line in lines) else lines
    return []


def page() -> str:
    """Return the text of docs/guides/cookbook.md."""
    parts = [HEAD.rstrip("\n")]
    for task, about in TASKS.items():
        parts.append(f"\n**{task}**: {about}.\n")
        parts += [f"- [{_title(recipe)}](#{_anchor(recipe)}): {_summary(recipe)}" for recipe in recipes() if recipe.task == task]
    for task in TASKS:
        parts.append(f"\n## {task}")
        parts += [_recipe(recipe) for recipe in recipes() if recipe.task == task]
    return "\n".join(parts).rstrip("\n") + "\n"


def _recipe(recipe: Recipe) -> str:
    lines = ["plugins:"]
    for phase, plugin in recipe.route.items():
        lines += [f"  {phase}:", "    conf:"]
        for entry in plugin["conf"]:
            value = json.dumps(json.loads(entry["value"]), ensure_ascii=False).replace("'", "''")
            lines += [f"      - name: {entry['name']}", f"        value: '{value}'"]
    stem = recipe.file.stem
    links = f"[Code](../../examples/plugins/{stem}.py), [test](../../examples/tests/test_{stem}.py). Keywords: {recipe.keywords}."
    blocks = ["```yaml", *lines, "```", "", "```sh", *recipe.commands, "```"]
    return "\n".join([f"\n### {_title(recipe)}\n\n{recipe.text}\n", *blocks, f"\n{links}"])


def _summary(recipe: Recipe) -> str:
    """Return the first sentence of a recipe, without the packages that it needs."""
    text = " ".join(recipe.text.partition("\n\n")[0].split())
    return re.sub(r" \(`pip install [^`]+`\)", "", re.split(r"(?<=\.) ", text)[0])


def _title(recipe: Recipe) -> str:
    return ", ".join(recipe.plugins)


def _anchor(recipe: Recipe) -> str:
    return _title(recipe).replace(", ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
