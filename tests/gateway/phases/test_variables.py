# SPDX-License-Identifier: Apache-2.0
"""Variables that the recorded scenario `ask-vars` does not contain."""

import pytest
from multidict import CIMultiDict

from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.variables import look_up
from apisix.gateway.routing.balancing import Node
from apisix.gateway.routing.routes import Route

HEADERS = CIMultiDict([("Host", "Gw.Example.com:9080"), ("X-Two", "a"), ("X-Two", "b"), ("Cookie", "c=1; d=x=y"), ("Cookie", "e=2")])


@pytest.fixture
def context() -> RequestContext:
    """Return a request that has been matched."""
    context = RequestContext("GET", "/u/7?x=1&x=2&flag&sp=a+b", HEADERS, b"body", "127.0.0.1", 50000, 9080, head_bytes=100)
    context.route = Route("r1", ("/u/:id",), name="users")
    context.node = Node("10.0.0.1", 81)
    context.uri_params = {"id": "7"}
    return context


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "gw.example.com"),
        ("http_host", "Gw.Example.com:9080"),
        ("http_x_two", "a, b"),
        ("http_X-Two", "a, b"),
        ("http_none", None),
        ("arg_x", "1"),
        ("arg_sp", "a b"),
        ("arg_flag", "true"),
        ("arg_none", None),
        ("cookie_c", "1"),
        ("cookie_d", "x=y"),
        ("cookie_e", "2"),
        ("cookie_none", None),
        ("uri_param_id", "7"),
        ("uri_param_none", None),
        ("route_id", "r1"),
        ("route_name", "users"),
        ("request", "GET /u/7?x=1&x=2&flag&sp=a+b HTTP/1.1"),
        ("remote_port", "50000"),
        ("request_length", "100"),
        ("balancer_ip", "10.0.0.1"),
        ("balancer_port", "81"),
        ("upstream_status", None),
        ("request_body", None),
    ],
)
def test_value(context: RequestContext, name: str, value: str | None) -> None:
    """A variable has the same value as in nginx. A variable that does not exist has no value."""
    assert look_up(context, name) == value


def test_request_length_counts_a_body_that_was_read(context: RequestContext) -> None:
    """nginx counts the bytes that it has read."""
    context.body_read = True
    assert (look_up(context, "request_length"), look_up(context, "request_body")) == ("104", "body")


def test_request_id_stays(context: RequestContext) -> None:
    """A request has one id of 32 hexadecimal digits."""
    first = look_up(context, "request_id")
    assert first is not None
    assert (len(bytes.fromhex(first)) * 2, look_up(context, "request_id")) == (32, first)


def test_host_of_an_ipv6_address() -> None:
    """The brackets of an address are kept, and its port is removed."""
    assert RequestContext("GET", "/", CIMultiDict(Host="[::1]:9080"), b"", "::1", 1, 9080).host == "[::1]"
