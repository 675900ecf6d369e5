# SPDX-License-Identifier: Apache-2.0
"""Add a route to the text of an apisix.yaml without changing its comments and its order."""

from collections.abc import Iterator
from typing import Any

import yaml

END = "#END"


class RouteNotAdded(Exception):
    """Raised if a route can't be added to a text. The message gives the reason."""


class RouteExists(RouteNotAdded):
    """Raised if the text already has such a route."""


def with_route(text: str, route: str) -> str:
    """
    Return the text with a route added after its last route.

    Args:
        text: an apisix.yaml.
        route: one item of a list, in YAML's block style, not indented.
    Raises:
        RouteExists: there is a route with the same id or uri.
        RouteNotAdded: the text has a form to which a route can't be added safely.
    """
    if not text.rstrip().endswith(END):
        raise RouteNotAdded(f"it does not end with the line {END}, without which APISIX ignores it")
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        content: Any = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise RouteNotAdded(f"it is not YAML: {' '.join(str(error).split())}") from error
    (added,) = yaml.safe_load(route)
    routes = content.get("routes") or [] if isinstance(content, dict) else None
    if not isinstance(routes, list):
        raise RouteNotAdded("it does not contain a list of routes")
    _refuse_present(routes, added)
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if "\r\n" in text else "\n"
    for at, indent, head in _places(root, lines):
        inserted = [*head, *(" " * indent + line for line in route.splitlines())]
        result = "".join([*lines[:at], *(line + newline for line in inserted), *lines[at:]])
        # The result must contain exactly the old content and the route.
        if _is(result, {**content, "routes": [*routes, added]}):
            return result
    raise RouteNotAdded("its list of routes is not in block style, with each item on its own lines")


def _places(root: yaml.Node | None, lines: list[str]) -> Iterator[tuple[int, int, list[str]]]:
    """Yield possible places for a route, the best first: the line before which it is added, its indentation, and the lines above it."""
    end = next(number for number in reversed(range(len(lines))) if lines[number].strip().endswith(END))
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    key, node = next((pair for pair in pairs if pair[0].value == "routes"), (None, None))
    if key is None:
        yield end, 2, ["routes:"]
    elif not isinstance(node, yaml.SequenceNode) or not node.value:
        yield key.end_mark.line + 1, 2, []
    else:
        # A node extends to the next one. A line that looks like a comment can be the last line of a multi-line string.
        last = min(node.value[-1].end_mark.line, end)
        first = last
        while not lines[first - 1].strip() or lines[first - 1].lstrip().startswith("#"):
            first -= 1
        yield from ((at, node.start_mark.column, []) for at in range(first, last + 1))


def _refuse_present(routes: list[Any], added: dict[str, Any]) -> None:
    for route in routes:
        if not isinstance(route, dict):
            continue
        if str(route.get("id")) == added["id"]:
            raise RouteExists(f"it has a route with the id {added['id']}")
        if added["uri"] in (route.get("uri"), *(route.get("uris") or ())):
            raise RouteExists(f"it has a route for {added['uri']}")


def _is(text: str, content: object) -> bool:
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False
