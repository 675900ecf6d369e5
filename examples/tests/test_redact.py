# SPDX-License-Identifier: Apache-2.0
"""plugins/redact.py."""

import gzip
import json

import pytest

from apisix.runner.errors import BodyError
from apisix.testing import Client

REDACT = ("redact", {"fields": ["password", "iban"]})
USERS = {"users": [{"name": "Ali", "Password": "open sesame"}, {"name": "Zoë", "bank": {"iban": ["DE1", "DE2"]}}], "total": 10**30}


@pytest.mark.parametrize("content_type", ["application/json", "application/problem+json; charset=utf-8", "text/json"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_fields_are_masked(client: Client, content_type: str, *, is_compressed: bool) -> None:
    """The fields are masked at any depth and in any case, whatever they contain. Other fields do not change."""
    body = json.dumps(USERS).encode()
    headers = {"Content-Type": content_type, "ETag": '"1"'} | ({"Content-Encoding": "gzip"} if is_compressed else {})
    result = client.respond(200, headers, gzip.compress(body) if is_compressed else body, plugins=[REDACT])

    assert result.response.json() == {
        "users": [{"name": "Ali", "Password": "***"}, {"name": "Zoë", "bank": {"iban": "***"}}],
        "total": 10**30,
    }
    assert dict(result.response.headers) == {"content-type": content_type}


@pytest.mark.parametrize("body", [b'{"password": "open sesame"', b'{"password": 1}\n{"password": 2}\n', b'{"a":' * 100_000])
def test_what_does_not_parse_stays_hidden(client: Client, body: bytes) -> None:
    """A body that can't be parsed does not reach the client."""
    result = client.respond(200, {"Content-Type": "application/json"}, body, plugins=[REDACT], raise_errors=False)

    assert (result.response.status, result.response.body) == (503, b"503 Service Unavailable\n")
    with pytest.raises(BodyError):
        client.respond(200, {"Content-Type": "application/json"}, body, plugins=[REDACT])


def test_other_types(client: Client) -> None:
    """A response that is not JSON is not read."""
    result = client.respond(200, {"Content-Type": "text/html"}, b"password", plugins=[REDACT])

    assert (result.response.body, result.asked) == (b"password", ())


def test_no_body(client: Client) -> None:
    """The response to a HEAD has a type but no body, and passes."""
    result = client.respond(200, {"Content-Type": "application/json"}, plugins=[REDACT], method="HEAD")

    assert (result.response.status, result.response.body) == (200, b"")


def test_no_type(client: Client) -> None:
    """A body without a type may be JSON, so it is masked, or not sent."""
    masked = client.respond(200, {}, b'{"iban": "DE1"}', plugins=[REDACT])
    other = client.respond(200, {}, b"hello", plugins=[REDACT], raise_errors=False)

    assert (masked.response.json(), other.response.status) == ({"iban": "***"}, 503)


def test_half_a_character(client: Client) -> None:
    """Text that is not valid Unicode is sent as JSON can write it."""
    result = client.respond(200, {"Content-Type": "application/json"}, b'{"a": "\\ud800", "iban": 1}', plugins=[REDACT])

    assert result.response.body == b'{"a": "\\ud800", "iban": "***"}'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b'"DE1"'), ("text/html", b"i@example.com"), ("multipart/byteranges; boundary=B", b"--B\r\n\r\nDE1\r\n--B--")],
)
def test_part_of_a_response(client: Client, content_type: str, body: bytes) -> None:
    """A part that the client has selected with a header `range` is not sent, because it can split what has to be masked."""
    headers = {"Content-Type": content_type, "Content-Range": "bytes 10-14/99"}
    response = client.respond(206, headers, body, plugins=[REDACT], raise_errors=False).response

    assert (response.status, body in response.body) == (503, False)
