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


def test_name_in_another_case(client: Client) -> None:
    """Some parsers ignore the case of names, so fields in another case are replaced and removed too."""
    result = client.post("/users", body='{"Role": "admin", "ROLE": "root", "Debug": true, "\u017ftate": 1}', plugins=[REWRITE])

    assert result.upstream.json() == {"role": "guest", "\u017ftate": 1}


def test_name_with_a_special_letter(client: Client) -> None:
    """Some letters that are not ASCII are equal to an ASCII one if the case is ignored."""
    plugin = ("request-body-rewrite", {"set": {"risk": 1}})

    assert client.post("/", body='{"ri\u017f\u212a": 0}', plugins=[plugin]).upstream.json() == {"risk": 1}


@pytest.mark.parametrize("body", [b'{"a": 123456789012345678901234567890, "role": "guest"}', b'{"a": "\\ud800", "role": "guest"}'])
def test_any_values(client: Client, body: bytes) -> None:
    """Numbers and text that few parsers accept are left to the upstream."""
    assert client.post("/users", body=body, plugins=[REWRITE]).upstream.body == body


def test_not_a_number(client: Client) -> None:
    """JSON has no NaN."""
    assert client.post("/users", body=b'{"a": NaN}', plugins=[REWRITE]).reply.status == 400
