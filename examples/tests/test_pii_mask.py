# SPDX-License-Identifier: Apache-2.0
"""plugins/pii_mask.py."""

import json
from typing import Any

import pytest

from apisix.testing import ChainRefused, Client, Result

PLUGINS: list[Any] = [("pii-mask", {})]


def chat(text: Any, **fields: Any) -> dict[str, Any]:
    """Return a request to a language model."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def send(client: Client, body: Any, **config: Any) -> Result:
    """Send a request."""
    return client.post("/", json=body, plugins=[("pii-mask", config)])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ali@example.com and zoe@example.com, cc ali@example.com.", "Write to [EMAIL_1] and [EMAIL_2], cc [EMAIL_1]."),
        ("Call +49 30 1234567!", "Call [PHONE_1]!"),
        ("4111 1111 1111 1111 or 4111111111111111", "[CARD_1] or [CARD_2]"),
        ("12345678 4111 1111 1111 1111 123", "[CARD_1]"),
        ("[EMAIL_1] is not an address, and 1 + 1 = 2.", "[EMAIL_1] is not an address, and 1 + 1 = 2."),
    ],
)
def test_request(client: Client, text: str, masked: str) -> None:
    """The upstream gets placeholders, and equal texts have the same one."""
    assert send(client, chat(text, model="m", temperature=0.5)).upstream.json() == chat(masked, model="m", temperature=0.5)


def test_all_of_the_body_is_searched(client: Client) -> None:
    """Names, numbers and escapes of JSON do not hide anything."""
    body = rb'{"x": 1, "x": {"ali\u0040example.com": [4111111111111111, "\ud800", true, null]}, "stream": null}'
    result = client.post("/", body=body, headers={"content-type": "text/plain"}, plugins=PLUGINS)

    assert result.upstream.json() == {"x": {"[EMAIL_1]": ["[CARD_2]", "\ud800", True, None]}, "stream": None}
    assert result.upstream.headers["content-type"] == "application/json"


def test_response(client: Client) -> None:
    """The client gets the originals."""
    first = send(client, chat("Write to ali@example.com and zoe@example.com."))
    body = json.dumps(chat('Hello [EMAIL_2], "[EMAIL_1]" and [EMAIL_3]: [EMAIL_1')).encode()
    result = client.respond(200, {"Content-Type": "application/json", "ETag": '"1"'}, body, plugins=PLUGINS, of=first)

    assert result.response.json() == chat('Hello zoe@example.com, "ali@example.com" and [EMAIL_3]: [EMAIL_1')
    assert dict(result.response.headers) == {"content-type": "application/json"}


def test_response_of_another_request(client: Client) -> None:
    """A response does not get the originals of another request."""
    send(client, chat("Write to ali@example.com."))
    other = send(client, chat("Hello."))
    result = client.respond(200, json=chat("[EMAIL_1]"), plugins=PLUGINS, of=other)

    assert result.response.json() == chat("[EMAIL_1]")


@pytest.mark.parametrize(("content_type", "body"), [("text/plain", b"[EMAIL_1]"), ("application/json", b"")])
def test_other_responses(client: Client, content_type: str, body: bytes) -> None:
    """Other responses do not change."""
    first = send(client, chat("ali@example.com"))
    result = client.respond(200, {"Content-Type": content_type}, body, plugins=PLUGINS, of=first)

    assert (result.response.status, result.response.body) == (200, body)


@pytest.mark.parametrize(
    "body", [b"", b"ali@example.com", b"[]", b'{"stream": true}', b'{"stream": "yes"}', b'{"a": "' + b"x" * 2**19 + b'"}']
)
def test_refused(client: Client, body: bytes) -> None:
    """A body that can't be searched, or whose response can't be restored, is refused."""
    assert client.post("/", body=body, plugins=PLUGINS).reply.status == 400


def test_too_much_to_remember(client: Client) -> None:
    """If there are more originals than the metadata can contain, the request is refused."""
    assert send(client, chat(" ".join(f"user{number}@example.com" for number in range(5000)))).reply.status == 400


def test_patterns(client: Client) -> None:
    """The configuration can have patterns of its own."""
    assert send(client, chat("case AB-1234"), patterns={"CASE": "([A-Z]{2})-[0-9]{4}"}).upstream.json() == chat("case [CASE_1]")


@pytest.mark.parametrize("patterns", [{"CASE": "("}, {"a b": "x"}, {}])
def test_bad_configuration(client: Client, patterns: dict[str, str]) -> None:
    """A route with a pattern that is not valid is refused."""
    with pytest.raises(ChainRefused):
        send(client, chat("x"), patterns=patterns)
