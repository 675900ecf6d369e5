# SPDX-License-Identifier: Apache-2.0
"""Add a route to the text of an apisix.yaml."""

import pytest
import yaml

from apisix.cli.routes.text import RouteExists, RouteNotAdded, with_route

ROUTE = """\
- id: new
  uri: /new
  upstream:
    nodes: {"127.0.0.1:1980": 1}
"""
INDENTED = ROUTE.replace("\n", "\n  ").rstrip(" ")

PLAIN = "routes:\n  - id: 1\n    uri: /a\n#END\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("#END\n", f"routes:\n  {INDENTED}#END\n"),
        ("# mine\n\n#END\n", f"# mine\n\nroutes:\n  {INDENTED}#END\n"),
        ("upstreams: []\n#END", f"upstreams: []\nroutes:\n  {INDENTED}#END"),
        (PLAIN, f"routes:\n  - id: 1\n    uri: /a\n  {INDENTED}#END\n"),
        ("routes:\n- id: 1\n  uri: /a\n#END\n", f"routes:\n- id: 1\n  uri: /a\n{ROUTE}#END\n"),
        (
            "routes:\n    # first\n    -   id: 1\n        uri: /a # a\n\n# what follows\nupstreams: []\n#END\n",
            "routes:\n    # first\n    -   id: 1\n        uri: /a # a\n    - id: new\n      uri: /new\n      upstream:\n"
            '        nodes: {"127.0.0.1:1980": 1}\n\n# what follows\nupstreams: []\n#END\n',
        ),
        (
            "routes:\n  - id: 1\n    uri: /a\n    desc: |\n      text\n\n      # no comment\n#END\n",
            f"routes:\n  - id: 1\n    uri: /a\n    desc: |\n      text\n\n      # no comment\n  {INDENTED}#END\n",
        ),
        ("routes:\n#END\n", f"routes:\n  {INDENTED}#END\n"),
    ],
)
def test_added(before: str, after: str) -> None:
    """The route is added after existing ones, with their indentation, and the rest of the text stays unchanged."""
    text = with_route(before, ROUTE)

    assert after == text
    routes = (yaml.safe_load(before) or {}).get("routes") or []
    assert yaml.safe_load(text)["routes"] == [*routes, *yaml.safe_load(ROUTE)]


def test_line_ends() -> None:
    """A file with Windows line ends keeps them."""
    text = with_route(PLAIN.replace("\n", "\r\n"), ROUTE)

    assert text == with_route(PLAIN, ROUTE).replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("routes: []\n", "does not end with the line #END"),
        ("routes: [{id: 1, uri: /a}]\n#END\n", "block style"),
        ("routes: []\n#END\n", "block style"),
        ("routes: {a: 1}\n#END\n", "does not contain a list of routes"),
        ("- routes\n#END\n", "does not contain a list of routes"),
        ("routes: [\n#END\n", "is not YAML"),
    ],
)
def test_not_added(text: str, reason: str) -> None:
    """A file in another form is not changed."""
    with pytest.raises(RouteNotAdded, match=reason):
        with_route(text, ROUTE)


@pytest.mark.parametrize("route", ["{id: new, uri: /a}", "{id: 1, uri: /new}", "{id: 1, uris: [/a, /new]}"])
def test_existing_route(route: str) -> None:
    """A route with the same id, or for the same path, is not added again."""
    with pytest.raises(RouteExists, match="new"):
        with_route(f"routes:\n  - {route}\n#END\n", ROUTE)
