# SPDX-License-Identifier: Apache-2.0
"""plugins/response_rewrite.py."""

import gzip

import pytest

from apisix.testing import Client


def test_headers(client: Client) -> None:
    """Headers are set and removed, all others stay, and nobody reads the body."""
    config = {"set_headers": {"x-frame-options": "DENY"}, "remove_headers": ["server", "x-powered-by"]}
    headers = [("Server", "Old/1.0"), ("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    result = client.respond(200, headers, b"<p>", plugins=[("response-rewrite", config)])

    assert [
        ("content-type", "text/html"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-length", "3"),
        ("x-frame-options", "DENY"),
    ] == list(result.response.headers.items())
    assert (200, b"<p>", ()) == (result.response.status, result.response.body, result.asked)


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
def test_error_page(client: Client, headers: dict[str, str]) -> None:
    """The upstream's own error is replaced, and what was said of its body with it."""
    config = {"only_status": [500], "status": 502, "body": "We are on it.", "set_headers": {"content-type": "text/plain"}}
    result = client.respond(500, headers, gzip.compress(b"Traceback"), plugins=[("response-rewrite", config)])

    assert (502, "We are on it.") == (result.response.status, result.response.text)
    assert {"content-type": "text/plain"} == dict(result.response.headers)


def test_other_status(client: Client) -> None:
    """Responses of another status than the chosen ones stay as they are."""
    result = client.respond(200, {}, b"fine", plugins=[("response-rewrite", {"only_status": [500], "body": "We are on it."})])

    assert b"fine" == result.response.body
