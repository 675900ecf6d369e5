# SPDX-License-Identifier: Apache-2.0
"""plugins/pii_redact.py."""

import gzip
import json
from typing import Any

import pytest

from apisix.testing import Client, Result

# The numbers are those that networks and banks publish for tests.
CARD, IBAN = "4111111111111111", "DE89370400440532013000"


def respond(client: Client, body: str | bytes, content_type: str | None = "text/html", **config: Any) -> Result:
    """Send a response of the upstream."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    data = body.encode() if isinstance(body, str) else body
    return client.respond(200, headers, data, plugins=[("pii-redact", config)], raise_errors=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to ali.o'neil+shop@mail.example.com.", "write to [email]."),
        ("ZOË@bücher.example", "[email]"),
        (f"{'a' * 100}@example.com", "[email]"),
        ("mailto:ali%40example.com", "mailto:[email]"),
        ("call +49 (30) 123-456 78 today", "call [phone] today"),
        (CARD, "[card]"),
        ("4111 1111 1111 1111", "[card]"),
        ("4111-1111-1111-1111", "[card]"),
        ("4111\u00a01111\u00a01111\u00a01111", "[card]"),
        ("card:378282246310005.", "card:[card]."),
        ("2024 4111 1111 1111 1111 123", "[card]"),
        (IBAN, "[iban]"),
        (IBAN.lower(), "[iban]"),
        ("DE89 3704 0044 0532 0130 00", "[iban]"),
        ("GB82 WEST 1234 5698 7654 32 is it", "[iban] is it"),
        ("ali@localhost", "ali@localhost"),
        ("4111111111111112", "4111111111111112"),
        ("DE88370400440532013000", "DE88370400440532013000"),
        ("AB12 3456 7890 1234 5678", "AB12 3456 7890 1234 5678"),
        ("2026-11-29 12:00:00 +0000, 1 + 1, 3.14159", "2026-11-29 12:00:00 +0000, 1 + 1, 3.14159"),
    ],
)
def test_text(client: Client, text: str, expected: str) -> None:
    """What looks like personal data is masked. Numbers with wrong check digits stay."""
    page = respond(client, f"<p>{text}</p>").response.text
    document = respond(client, json.dumps({"a": [text]}), "application/json").response.json()

    assert (page, document) == (f"<p>{expected}</p>", {"a": [expected]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<a href='mailto:ali@example.com'>ali&#64;example&period;com</a>", "<a href='mailto:[email]'>[email]</a>"),
        ("<p>ali&#x40;example.com 4111&nbsp;1111&nbsp;1111&nbsp;1111", "<p>[email] [card]"),
        (r'<script>let user = "ali\u0040example.com"</script>', '<script>let user = "[email]"</script>'),
        (
            "<!-- ali@example.com -->&lt;b&gt; &#60;b&#x3e; &amp;amp; &unknown;",
            "<!-- [email] -->&lt;b&gt; &#60;b&#x3e; &amp;amp; &unknown;",
        ),
    ],
)
def test_html(client: Client, body: str, expected: str) -> None:
    """Attributes, scripts, comments and character references are searched too. Markup does not change."""
    assert respond(client, body).response.text == expected


def test_json(client: Client) -> None:
    """Strings, names and numbers at any depth are masked."""
    body = r'{"x": [{"ali\u0040example.com": 4111111111111111}], "y": true, "z": 1.5, "n": null, "s": "\ud800", "i": 7}'
    result = respond(client, body, "application/problem+json; charset=utf-8")

    assert result.response.json() == {"x": [{"[email]": "[card]"}], "y": True, "z": 1.5, "n": None, "s": "\ud800", "i": 7}


def test_headers(client: Client) -> None:
    """The charset is that of the new body, and headers that describe the old one are removed."""
    headers = {"Content-Type": "Text/HTML; charset=iso-8859-1", "ETag": '"1"', "Content-Encoding": "gzip"}
    result = client.respond(200, headers, gzip.compress("é ali@example.com".encode("latin-1")), plugins=[("pii-redact", {})])

    assert result.response.body == "é [email]".encode()
    assert dict(result.response.headers) == {"content-type": "text/html; charset=utf-8"}


@pytest.mark.parametrize("kind", [None, "text/plain", "text/csv", "application/xml", "application/atom+xml", "application/x-ndjson"])
def test_types(client: Client, kind: str | None) -> None:
    """Text is searched, also if its type is not known."""
    assert respond(client, "ali@example.com\n", kind).response.text == "[email]\n"


def test_other_types(client: Client) -> None:
    """Other bodies are not read."""
    result = respond(client, b"ali@example.com", "image/png")

    assert (result.response.body, result.asked) == (b"ali@example.com", ())


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("x" * 101, "text/plain"),
        (b"\xff ali@example.com", "text/html"),
        ("ali@example.com", "text/html; charset=unknown"),
        ('{"a": "ali@example.com"', "application/json"),
    ],
)
def test_not_readable(client: Client, body: str | bytes, content_type: str) -> None:
    """A response that can't be searched is not sent."""
    response = respond(client, body, content_type, max_bytes=100).response

    assert (response.status, response.body) == (503, b"503 Service Unavailable\n")


def test_no_body(client: Client) -> None:
    """A response without a body passes."""
    assert respond(client, b"").response.status == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b'"DE1"'), ("text/html", b"i@example.com"), ("multipart/byteranges; boundary=B", b"--B\r\n\r\nDE1\r\n--B--")],
)
def test_part_of_a_response(client: Client, content_type: str, body: bytes) -> None:
    """A part that the client has selected with a header `range` is not sent, because it can split what has to be masked."""
    headers = {"Content-Type": content_type, "Content-Range": "bytes 10-14/99"}
    response = client.respond(206, headers, body, plugins=[("pii-redact", {})], raise_errors=False).response

    assert (response.status, body in response.body) == (503, False)
