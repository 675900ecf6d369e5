# SPDX-License-Identifier: Apache-2.0
"""plugins/json_schema.py."""

import json
from typing import Any

import pytest

from apisix.testing import ChainRefused, Client

SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "maxLength": 10}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}},
    "additionalProperties": False,
    "$defs": {"tag": {"enum": ["a", "b"]}},
}
PLUGINS = [("json-schema", {"schema": SCHEMA, "max_bytes": 1000})]


def test_valid(client: Client) -> None:
    """The upstream gets a valid body."""
    result = client.post("/", json={"name": "Zoë", "tags": ["a"]}, plugins=PLUGINS)

    assert result.upstream.json() == {"name": "Zoë", "tags": ["a"]}


@pytest.mark.parametrize(
    ("body", "at", "rule"),
    [
        ({}, "$", "required"),
        ([], "$", "type"),
        ({"name": 1}, "$.name", "type"),
        ({"name": "x" * 11}, "$.name", "maxLength"),
        ({"name": "x", "tags": ["a", "c"]}, "$.tags[1]", "enum"),
        ({"name": "x", "role": "admin"}, "$", "additionalProperties"),
    ],
)
def test_not_valid(client: Client, body: Any, at: str, rule: str) -> None:
    """The reply names the field and the rule, but not the value."""
    reply = client.post("/", json=body, plugins=PLUGINS).reply

    assert (reply.status, reply.json()) == (422, {"error": "the body does not match the schema", "at": at, "rule": rule})


@pytest.mark.parametrize(("form", "value"), [("email", "x"), ("ipv4", "1.2.3"), ("date", "2026-13-01"), ("uuid", "x")])
def test_format(client: Client, form: str, value: str) -> None:
    """The formats of a schema are checked."""
    plugins = [("json-schema", {"schema": {"type": "string", "format": form}})]

    assert client.post("/", json=value, plugins=plugins).reply.json()["rule"] == "format"


def test_repeated_name(client: Client) -> None:
    """The upstream gets the value that was checked, and not another one of the same name."""
    result = client.post("/", body=b'{"name": 1, "name": "x"}', plugins=PLUGINS)

    assert result.upstream.body == b'{"name": "x"}'


@pytest.mark.parametrize("body", [b"", b"x", b'{"name": NaN}', b"\xff", b"[" * 900])
def test_no_json(client: Client, body: bytes) -> None:
    """A body that is not JSON is refused."""
    assert client.post("/", body=body, plugins=PLUGINS).reply.status == 400


def test_long_body(client: Client) -> None:
    """A long body is refused before it is parsed."""
    assert client.post("/", body=json.dumps({"name": "x" * 1000}), plugins=PLUGINS).reply.status == 413


def test_schema_of_another_server(client: Client) -> None:
    """A reference to another server is not followed, and the request is refused."""
    plugins = [("json-schema", {"schema": {"$ref": "http://127.0.0.1:1/schema.json"}})]

    assert client.post("/", json={}, plugins=plugins, raise_errors=False).reply.status == 503


def test_bad_schema(client: Client) -> None:
    """A route with a schema that is not valid is refused."""
    with pytest.raises(ChainRefused, match=r"not valid at \$\.type"):
        client.post("/", json={}, plugins=[("json-schema", {"schema": {"type": "things"}})])
