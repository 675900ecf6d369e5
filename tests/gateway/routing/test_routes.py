# SPDX-License-Identifier: Apache-2.0
"""Which route a request matches, and which node of its upstream it is sent to."""

import pytest

from apisix.gateway.phases.quirks import default_router
from apisix.gateway.resources.definitions import NO_RESOURCES, build_route
from apisix.gateway.routing.balancing import Node, RoundRobin
from apisix.gateway.routing.routes import Match, Router


def router(*routes: dict[str, object], kind: str = "radixtree_uri_with_parameter") -> Router:
    """Build a router. The ids of the routes are counted from 1."""
    built = [build_route({"id": str(number), **route}, NO_RESOURCES, "1", []) for number, route in enumerate(routes, 1)]
    return Router(built, kind)


def matched(match: Match | None) -> str | None:
    """Return the id of the route that matches."""
    return None if match is None else match.route.id


@pytest.mark.parametrize(
    ("uri", "path", "params"),
    [
        ("/a", "/a", {}),
        ("/a", "/a/", None),
        ("/a", "/b", None),
        ("/*", "/any/thing", {":ext": "any/thing"}),
        ("/a*", "/abc", {}),
        ("/a/*", "/a/b/c", {":ext": "b/c"}),
        ("/a/*", "/a", None),
        ("/users/:id", "/users/7", {"id": "7"}),
        ("/users/:id", "/users/7/x", None),
        ("/users/:id", "/users/", None),
        ("/users/:id/posts/:post", "/users/7/posts/x", {"id": "7", "post": "x"}),
        ("/users/:id/*", "/users/7/a/b", {"id": "7", ":ext": "a/b"}),
        ("/files/*rest", "/files/a/b", {"rest": "a/b"}),
        ("/a.c/:x", "/abc/1", None),
    ],
)
def test_paths(uri: str, path: str, params: dict[str, str] | None) -> None:
    """A path is literal, ends in `*`, or contains `:name` for one segment and `*name` for the rest."""
    match = router({"uri": uri}).match("GET", "", path, "127.0.0.1")

    assert (None if match is None else match.params) == params


def test_a_colon_is_literal_with_the_default_router() -> None:
    """`:name` is a parameter only with the router `radixtree_uri_with_parameter`."""
    default = Router([build_route({"id": "1", "uri": "/a/:id"}, NO_RESOURCES, "1", [])])

    assert matched(default.match("GET", "", "/a/7", "127.0.0.1")) is None
    assert matched(default.match("GET", "", "/a/:id", "127.0.0.1")) == "1"


@pytest.mark.parametrize(
    ("path", "id"),
    [("/a/b", "1"), ("/a/c", "2"), ("/a", "3"), ("/x/1", "4")],
)
def test_nearest_path_wins(path: str, id: str) -> None:
    """A literal path takes precedence, and then the path with the longest literal prefix."""
    routes = router({"uri": "/a/b"}, {"uri": "/a/*"}, {"uri": "/*"}, {"uri": "/x/:id"})

    assert matched(routes.match("GET", "", path, "127.0.0.1")) == id


def test_priority_decides_between_alike() -> None:
    """If several routes have the same path, the one with the higher priority is used. Priority does not override a more specific path."""
    assert matched(router({"uri": "/a"}, {"uri": "/a", "priority": 1}).match("GET", "", "/a", "127.0.0.1")) == "2"
    assert matched(router({"uri": "/a"}, {"uri": "/*", "priority": 9}).match("GET", "", "/a", "127.0.0.1")) == "1"


@pytest.mark.parametrize(
    ("host", "id"),
    [("a.example.com", "1"), ("b.example.com", "2"), ("x.b.example.com", "2"), ("example.com", "3"), ("other.org", "3"), ("", "3")],
)
def test_hosts(host: str, id: str) -> None:
    """An exact host takes precedence over a wildcard, and both over routes without a host."""
    routes = router(
        {"uri": "/*", "host": "A.example.com"},
        {"uri": "/*", "hosts": ["*.example.com", "b.example.net"]},
        {"uri": "/*"},
        kind="radixtree_host_uri",
    )

    assert matched(routes.match("GET", host, "/", "127.0.0.1")) == id


@pytest.mark.parametrize(("kind", "id"), [("radixtree_host_uri", "1"), ("radixtree_uri", "2")])
def test_hosts_before_paths(kind: str, id: str) -> None:
    """A host takes precedence over a more specific path only with `radixtree_host_uri`. With the other routers, it is a condition."""
    routes = router({"uri": "/*", "host": "*.example.com"}, {"uri": "/a"}, kind=kind)

    assert matched(routes.match("GET", "x.example.com", "/a", "127.0.0.1")) == id
    assert matched(routes.match("GET", "other.org", "/b", "127.0.0.1")) is None


def test_the_next_host_is_tried() -> None:
    """If no route of the most specific host matches, routes of a less specific host are tried, and then those without a host."""
    routes = router({"uri": "/a", "host": "x.org"}, {"uri": "/b", "host": "*.org"}, {"uri": "/c"}, kind="radixtree_host_uri")

    assert [matched(routes.match("GET", "x.org", path, "127.0.0.1")) for path in ("/a", "/b", "/c", "/d")] == ["1", "2", "3", None]


def test_the_default_router_by_release() -> None:
    """The default changed with 3.3."""
    assert [default_router(version) for version in ((2, 7), (3, 2, 2), (3, 3), (3, 18))] == ["radixtree_uri"] * 2 + [
        "radixtree_host_uri"
    ] * 2


def test_methods() -> None:
    """A route with methods matches only these methods. A route without methods matches all."""
    routes = router({"uri": "/a", "methods": ["GET", "POST"]}, {"uri": "/*"})

    assert [matched(routes.match(method, "", "/a", "127.0.0.1")) for method in ("GET", "POST", "PUT")] == ["1", "1", "2"]


def test_remote_addresses() -> None:
    """A route can be for some clients only."""
    routes = router({"uri": "/*", "remote_addrs": ["10.0.0.0/8", "::1"]})

    assert [matched(routes.match("GET", "", "/", address)) for address in ("10.1.2.3", "127.0.0.1", "::1")] == ["1", None, "1"]


def test_uris() -> None:
    """A route can have many paths."""
    routes = router({"uris": ["/a", "/b/*"]})

    assert [matched(routes.match("GET", "", path, "127.0.0.1")) for path in ("/a", "/b/c", "/c")] == ["1", "1", None]


def test_round_robin_by_weight() -> None:
    """Nodes are selected in turn by weight, evenly distributed. A node with weight 0 is not selected."""
    nodes = RoundRobin([Node("a", 1, 2), Node("b", 1, 1), Node("c", 1, 0)])
    picked = [nodes.pick() for _ in range(6)]

    assert [node.host for node in picked if node is not None] == ["a", "b", "a", "a", "b", "a"]


def test_no_node() -> None:
    """An upstream without nodes has none to select. If all weights are 0, APISIX uses the nodes nevertheless."""
    assert RoundRobin([]).pick() is None
    assert str(RoundRobin([Node("a", 1, 0)]).pick()) == "a:1"
