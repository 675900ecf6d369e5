# SPDX-License-Identifier: Apache-2.0
"""A definition that APISIX would refuse is refused with the same message. Fields without an effect here are named."""

from typing import Any

import pytest

from apisix.gateway.resources.definitions import NO_RESOURCES, InvalidDefinition, Problem, build_route, build_upstream
from apisix.gateway.routing.balancing import Node

UPSTREAM = {"nodes": {"127.0.0.1:1980": 1}}


def problems_of(**route: Any) -> list[str]:
    """Return the problems reported for a route."""
    problems: list[Problem] = []
    build_route({"id": "1", "uri": "/a", **route}, NO_RESOURCES, "1", problems)
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ({"uri": 1}, 'property "uri" validation failed: wrong type: expected string, got number'),
        ({"uri": "/a", "uris": ["/b"]}, "value should match only one schema, but matches both"),
        ({}, "value should match only one schema, but matches none"),
        ({"uri": "/a", "methode": []}, "additional properties forbidden, found methode"),
        ({"uri": "/a", "priority": True}, 'property "priority" validation failed: wrong type: expected integer, got boolean'),
        ({"uri": "/a", "methods": ["get"]}, 'property "methods" validation failed'),
        ({"uri": "/a", "plugins": {"ext-plugin": {}}}, r"unknown plugin \[ext-plugin\]"),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": []}}}, "expect array to have at least 1 items"),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "a"}]}}}, 'property "value" is required'),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "", "value": ""}]}}}, "string too short"),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "a", "value": {}}]}}}, "expected string, got table"),
        ({"uri": "/a", "upstream_id": 9}, r"failed to fetch upstream info by upstream id \[9\], response code: 404"),
        ({"uri": "/a", "upstream": {"type": "roundrobin"}}, "value should match only one schema, but matches none"),
        ({"uris": ["/a", 5]}, r'property "uris" validation failed: Expected `str`, got `int` - at `\$\[1\]`'),
        ({"uri": "/a", "upstream": {"nodes": {"a:1": "x"}}}, 'property "nodes" validation failed: Expected `int`, got `str`'),
        ({"uri": "/a", "upstream": {"nodes": {"a:x": 1}}}, "property \"nodes\" validation failed: 'a:x' has no valid port"),
        ({"uri": "/a", "upstream": {"nodes": [{"port": 1}]}}, 'property "nodes" validation failed: Object missing required field `host`'),
        ({"uri": "/a", "upstream": {"nodes": {"a:1": 1}, "timeout": {"read": 0}}}, 'property "timeout" validation failed'),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"allow_degradation": 1}}}, "expected boolean"),
        ({"uri": "/a", "plugins": {"cors": 1}}, "invalid plugin conf 1"),
        ({"uri": "/a", "plugins": {"cors": {"_meta": 1}}}, "_meta has to be an object"),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": 1}}}, "expected array, got number"),
        ({"uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": [1]}}}, "expected object, got number"),
        ({"uri": "/a", "remote_addr": "x"}, 'property "remote_addrs" validation failed'),
        ({"uri": "/a", "vars": [["arg_a", "=", "1"]]}, "failed to validate the 'vars' expression: invalid operator '='"),
        ({"uri": "/a", "service_id": "1"}, r"failed to fetch service info by service id \[1\], response code: 404"),
        ({"uri": "/a", "upstream": {"nodes": {"a:1": 1}, "type": "x"}}, 'property "type" validation failed'),
        ({"uri": "/a", "plugins": {"cors": {"_meta": {"filter": 1}}}}, "failed to validate the 'vars' expression"),
        ({"uri": "/a", "plugins": {"cors": {"_meta": {"priority": "1"}}}}, 'property "priority" validation failed'),
        ({"uri": "/a", "status": 7}, 'property "status" validation failed: matches none of the enum values'),
        ({"uri": "/a", "id": "a b"}, 'property "id" validation failed'),
        ({"uri": "/a", "plugins": {"proxy-rewrite": {"uri": 5}}}, 'proxy-rewrite err: property "uri" validation failed: Expected `str`'),
        ({"uri": "/a", "plugins": {"proxy-rewrite": {"headers": 5}}}, 'property "headers" validation failed: Expected `object`'),
        ({"uri": "/a", "plugins": {"proxy-rewrite": {"headers": {"set": {}, "add": 5}}}}, r"Expected `object`, got `int` - at `\$.add`"),
    ],
)
def test_refused(route: dict[str, Any], reason: str) -> None:
    """A mistake is refused with the same message as in APISIX."""
    with pytest.raises(InvalidDefinition, match=reason):
        build_route({"id": "1", **route}, NO_RESOURCES, "1", [])


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (
            {"filter_func": "function(vars) return vars.arg_a ~= nil or vars.arg_b end"},
            "filter_func is not supported by the development gateway, so",
        ),
        ({"script": "return {}"}, "script is not supported by the development gateway, so all requests"),
        (
            {"plugins": {"jwt-auth": {}}},
            "plugin jwt-auth is not supported by the development gateway, so all requests are answered with 503",
        ),
        ({"plugins": {"limit-count": {}}}, "plugin limit-count does not run in the development gateway"),
        (
            {"plugins": {"proxy-rewrite": {"scheme": "http"}}},
            "scheme of proxy-rewrite is not",
        ),
        (
            {"plugins": {"ext-plugin-pre-req": {"_meta": {"pre_function": "x"}}}},
            "_meta.pre_function of ext-plugin-pre-req is not",
        ),
        ({"upstream": {**UPSTREAM, "scheme": "grpc"}}, "upstream scheme grpc is not supported"),
        ({"upstream": {**UPSTREAM, "checks": {}}}, "the health checks of the upstream (checks) have no effect"),
    ],
)
def test_said(route: dict[str, Any], said: str) -> None:
    """A feature of APISIX that this gateway does not support is reported, with the route that uses it."""
    (problem,) = problems_of(**route)

    assert problem.startswith(f"route 1: {said}")


def test_nothing_to_say() -> None:
    """A route that is completely supported causes no message."""
    plugins = {"ext-plugin-pre-req": {}, "proxy-rewrite": {"uri": "/b", "headers": {"a": "b"}, "host": "c"}}

    assert problems_of(plugins=plugins, upstream=UPSTREAM, name="n", labels={"a": "b"}, desc="d", status=1) == []


@pytest.mark.parametrize(
    ("nodes", "node"),
    [
        ({"127.0.0.1:1980": 2}, Node("127.0.0.1", 1980, 2)),
        ({"httpbin.org": 1}, Node("httpbin.org", 80, 1)),
        ({"[::1]:1980": 1}, Node("::1", 1980, 1)),
        ([{"host": "a", "port": 1, "weight": 3}], Node("a", 1, 3)),
        ([{"host": "a"}], Node("a", 80, 1)),
    ],
)
def test_nodes(nodes: Any, node: Node) -> None:
    """Nodes are a mapping of addresses to weights, or a list of mappings."""
    assert build_upstream({"nodes": nodes}, "upstream 1", []).nodes == [node]


def test_disabled_plugin() -> None:
    """A plugin that is disabled by `_meta` does not run."""
    plugins = {"ext-plugin-pre-req": {"_meta": {"disable": True}}, "ext-plugin-post-req": {"_meta": {"disable": False}}}

    assert list(build_route({"id": "1", "uri": "/a", "plugins": plugins}, NO_RESOURCES, "1", []).plugins) == ["ext-plugin-post-req"]


def test_timeouts() -> None:
    """Timeouts of an upstream are in seconds."""
    upstream = build_upstream({**UPSTREAM, "timeout": {"connect": 1, "read": 0.5}}, "upstream 1", [])

    assert (upstream.connect_timeout_s, upstream.send_timeout_s, upstream.read_timeout_s) == (1.0, 60.0, 0.5)


def test_a_uri_that_nothing_matches() -> None:
    """APISIX accepts a uri without a leading slash, but no request ever matches it. A message reports it."""
    assert problems_of(uri="get") == ["route 1: 'get' does not begin with a slash, so no request matches it"]
