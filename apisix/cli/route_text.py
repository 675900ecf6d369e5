# SPDX-License-Identifier: Apache-2.0
"""Add a route to the text of an apisix.yaml, whose comments and order stay as a person wrote them."""

from typing import Any

import yaml

END = "#END"


class NotAdded(Exception):
    """A route can't be added to a text; says why."""


class RoutePresent(NotAdded):
    """The text has such a route already."""


def with_route(text: str, route: str) -> str:
    """
    Return the text with a route after those that it has.

    Args:
        text: an apisix.yaml.
        route: one item of a list, in YAML's block style, not indented.
    Raises:
        RoutePresent: a route with the same id or uri is there.
        NotAdded: the text is not written so that a program can add to it safely.
    """
    if not text.rstrip().endswith(END):
        raise NotAdded(f"it does not end with the line {END}, without which APISIX ignores it")
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        content: Any = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise NotAdded(f"it is no YAML: {' '.join(str(error).split())}") from error
    (added,) = yaml.safe_load(route)
    routes = content.get("routes") or [] if isinstance(content, dict) else None
    if not isinstance(routes, list):
        raise NotAdded("it holds no list of routes")
    _refuse_present(routes, added)
    lines = text.splitlines(keepends=True)
    at, indent, head = _place(root, lines)
    newline = "\r\n" if "\r\n" in text else "\n"
    inserted = [head, *(" " * indent + line for line in route.splitlines())]
    result = "".join([*lines[:at], *(line + newline for line in inserted if line), *lines[at:]])
    if at and not lines[at - 1].endswith("\n"):
        raise NotAdded("its last line is not ended")
    # What was there, and the route: nothing else may have changed.
    if not _is(result, {**content, "routes": [*routes, added]}):
        raise NotAdded("its list of routes is not written in block style, one item below the other")
    return result


def _place(root: yaml.Node | None, lines: list[str]) -> tuple[int, int, str]:
    """Return the number of the line before which a route belongs, how far it is indented, and the line that stands above it."""
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((value for key, value in pairs if key.value == "routes"), None)
    if node is None:
        end = next(number for number in reversed(range(len(lines))) if lines[number].strip().endswith(END))
        return end, 2, "routes:"
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        return _after(node.start_mark.line, lines), 2, ""
    return _after(node.value[-1].end_mark.line, lines), node.start_mark.column, ""


def _after(line: int, lines: list[str]) -> int:
    """Go back from where a node ends over the blank lines and comments below it."""
    line = min(line, len(lines))
    while line and (not lines[line - 1].strip() or lines[line - 1].lstrip().startswith("#")):
        line -= 1
    return line


def _refuse_present(routes: list[Any], added: dict[str, Any]) -> None:
    for route in routes:
        if not isinstance(route, dict):
            continue
        if str(route.get("id")) == added["id"]:
            raise RoutePresent(f"it has a route with the id {added['id']}")
        if added["uri"] in (route.get("uri"), *(route.get("uris") or ())):
            raise RoutePresent(f"it has a route for {added['uri']}")


def _is(text: str, content: object) -> bool:
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False
