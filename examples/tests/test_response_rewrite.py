# SPDX-License-Identifier: Apache-2.0
"""plugins/response_rewrite.py."""

import gzip

import pytest

from apisix.testing import Client


def test_headers(client: Client) -> None:
    """Headers are set and removed, others do not change, and the body is not read."""
    config = {"set_headers": {"x-frame-options": "DENY"}, "remove_headers": ["server", "x-powered-by"]}
    headers = [("Server", "Old/1.0"), ("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    result = client.respond(200, headers, b"<p>", plugins=[("response-rewrite", config)])

    assert list(result.response.headers.items()) == [
        ("content-type", "text/html"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-length", "3"),
        ("x-frame-options", "DENY"),
    ]
    assert (result.response.status, result.response.body, result.asked) == (200, b"<p>", ())


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
def test_error_page(client: Client, headers: dict[str, str]) -> None:
    """An error of the upstream is replaced, including the headers of its body."""
    config = {"only_status": [500], "status": 502, "body": "We are on it.", "set_headers": {"content-type": "text/plain"}}
    result = client.respond(500, headers, gzip.compress(b"Traceback"), plugins=[("response-rewrite", config)])

    assert (result.response.status, result.response.text) == (502, "We are on it.")
    assert dict(result.response.headers) == {"content-type": "text/plain"}


def test_other_status(client: Client) -> None:
    """Responses with other statuses do not change."""
    result = client.respond(200, {}, b"fine", plugins=[("response-rewrite", {"only_status": [500], "body": "We are on it."})])

    assert result.response.body == b"fine"
