# SPDX-License-Identifier: Apache-2.0
"""plugins/request_body_rewrite.py."""

import pytest

from apisix.testing import Client

REWRITE = ("request-body-rewrite", {"set": {"role": "guest"}, "remove": ["debug"]})


def test_fields_are_set_and_removed(client: Client) -> None:
    """The upstream gets the client's object with our fields, and its true length and type."""
    result = client.post("/users", body='{"name": "Ali", "role": "admin", "debug": true}', plugins=[REWRITE])

    assert {"name": "Ali", "role": "guest"} == result.upstream.json()
    assert "application/json" == result.upstream.headers["content-type"]
    assert str(len(result.upstream.body)) == result.upstream.headers["content-length"]


@pytest.mark.parametrize("body", [b"name=Ali&role=admin", b'["admin"]', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object(client: Client, body: bytes) -> None:
    """A body that the plugin does not understand does not reach the upstream."""
    result = client.post("/users", body=body, plugins=[REWRITE])

    assert 400 == result.reply.status


def test_no_body(client: Client) -> None:
    """A request without body goes on as it is."""
    result = client.get("/users", plugins=[REWRITE])

    assert b"" == result.upstream.body
