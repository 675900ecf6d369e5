# SPDX-License-Identifier: Apache-2.0
"""plugins/request_body_rewrite.py."""

import pytest

from apisix.testing import Client

REWRITE = ("request-body-rewrite", {"set": {"role": "guest"}, "remove": ["debug"]})


def test_fields_are_set_and_removed(client: Client) -> None:
    """The upstream gets the changed object, with the correct length and type."""
    result = client.post("/users", body='{"name": "Ali", "role": "admin", "debug": true}', plugins=[REWRITE])

    assert result.upstream.json() == {"name": "Ali", "role": "guest"}
    assert result.upstream.headers["content-type"] == "application/json"
    assert str(len(result.upstream.body)) == result.upstream.headers["content-length"]


@pytest.mark.parametrize("body", [b"name=Ali&role=admin", b'["admin"]', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object(client: Client, body: bytes) -> None:
    """A body that is not a JSON object does not reach the upstream."""
    result = client.post("/users", body=body, plugins=[REWRITE])

    assert result.reply.status == 400


def test_no_body(client: Client) -> None:
    """A request without a body does not change."""
    result = client.get("/users", plugins=[REWRITE])

    assert result.upstream.body == b""
