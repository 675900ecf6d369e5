# SPDX-License-Identifier: Apache-2.0
"""plugins/graphql_depth.py."""

import pytest

from apisix.testing import Client

PLUGINS = [("graphql-depth", {"max_depth": 3, "max_tokens": 200})]


@pytest.mark.parametrize(
    "query",
    [
        "{a}",
        "{a{b{c}} d}",
        "query Q($x: Int = 1) {a(x: $x) {... on T {b {c}}}}",
        "mutation {a {...F}} fragment F on T {b {c}}",
        "{a {...F ...F}} fragment F on T {b}",
    ],
)
def test_allowed(client: Client, query: str) -> None:
    """A query up to the limit reaches the upstream, in the body or in the argument."""
    assert not client.post("/", json={"query": query}, plugins=PLUGINS).stopped
    assert not client.get("/", params={"query": query}, plugins=PLUGINS).stopped


@pytest.mark.parametrize(
    "query",
    [
        "{a{b{c{d}}}}",
        "{a} query Q {a{b{c{d}}}}",
        "subscription {a {... on T {b {c {d}}}}}",
        "{a {...F}} fragment F on T {b {c {d}}}",
        "{...F} fragment F on T {...G} fragment G on T {a {...F}}",
        "{a {...F}} fragment F on T {...F}",
        "{a{" + "".join(f"...F{i}}}}} fragment F{i} on T {{a{{...F{i + 1} " for i in range(9)) + "x}}",
    ],
)
def test_too_deep(client: Client, query: str) -> None:
    """A deeper query is refused, also if fragments hide its depth."""
    assert client.post("/", json={"query": query}, plugins=PLUGINS).reply.status == 400
    assert client.post("/", json={"query": "{a}"}, params={"query": query}, plugins=PLUGINS).reply.status == 400


def test_fragments_of_fragments(client: Client) -> None:
    """Fragments that contain others twice do not take exponential time."""
    fragments = " ".join(f"fragment F{i} on T {{...F{i + 1} ...F{i + 1}}}" for i in range(500))
    plugins = [("graphql-depth", {"max_tokens": 10_000})]
    result = client.post("/", json={"query": f"{{...F0}} {fragments} fragment F500 on T {{a}}"}, plugins=plugins)

    assert result.stopped or result.upstream.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'[{"query": "{a}"}]',
        b'{"query": null}',
        b'{"query": ["{a}"]}',
        b'{"query": ""}',
        b'{"query": "{"}',
        b'{"query": "{...Missing}"}',
        b'{"query": "\\ud800"}',
        b'{"query": "' + b"{a" * 90 + b"}" * 90 + b'"}',
        b'{"query": "{' + b"a " * 300 + b'}"}',
        b'{"extensions": {"persistedQuery": {}}}',
    ],
)
def test_no_query(client: Client, body: bytes) -> None:
    """A request without a query, with a query that can't be parsed, or with a long one, is refused."""
    assert client.post("/", body=body, plugins=PLUGINS).reply.status == 400


@pytest.mark.parametrize("name", ["query", "Query", "QUERY"])
def test_two_queries(client: Client, name: str) -> None:
    """The upstream gets the query that was checked, and not one of the same name in any case."""
    body = f'{{"{name}": "{{a{{b{{c{{d}}}}}}}}", "query": "{{a}}", "operationName": null}}'
    result = client.post("/", body=body, headers={"content-type": "text/plain"}, plugins=PLUGINS)

    assert result.upstream.json() == {"query": "{a}", "operationName": None}
    assert result.upstream.headers["content-type"] == "application/json"


def test_many_arguments(client: Client) -> None:
    """The gateway sends at most 100 arguments to plugins, and all to the upstream, so a query could be behind them."""
    assert client.get(f"/?query={{a}}{'&a=1' * 99}", plugins=PLUGINS).reply.status == 400
    assert not client.get(f"/?query={{a}}{'&a=1' * 98}", plugins=PLUGINS).stopped
