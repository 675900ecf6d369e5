# SPDX-License-Identifier: Apache-2.0
"""plugins/webhook_github.py."""

import hashlib
import hmac

import pytest

from apisix.testing import ChainRefused, Client

OLD, NEW = "the old secret of the hook", "the new secret of the hook"
PLUGINS = [("webhook-github", {"secrets": [NEW, OLD], "max_bytes": 1000})]
BODY = b'{"zen":  "Keep it logically awesome.", "n": "\xc3\xbc"}'


def signed(secret: str = NEW, body: bytes = BODY) -> str:
    """Return the signature that GitHub sends."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_example_of_the_documentation(client: Client) -> None:
    """The values that GitHub's documentation has for testing an implementation are accepted."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    plugins = [("webhook-github", {"secrets": ["It's a Secret to Everybody"]})]
    result = client.post("/", body=b"Hello, World!", headers={"x-hub-signature-256": signature}, plugins=plugins)

    assert not result.stopped


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_signed(client: Client, secret: str) -> None:
    """The upstream gets the body as it was sent, whichever of the secrets has signed it."""
    result = client.post("/", body=BODY, headers={"x-hub-signature-256": signed(secret)}, plugins=PLUGINS)

    assert result.upstream.body == BODY


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-hub-signature", signed())],
        [("x-hub-signature-256", "")],
        [("x-hub-signature-256", "sha256=")],
        [("x-hub-signature-256", "sha256=\udcff")],
        [("x-hub-signature-256", signed().removeprefix("sha256="))],
        [("x-hub-signature-256", signed().upper())],
        [("x-hub-signature-256", signed("another secret of a hook"))],
        [("x-hub-signature-256", signed(body=BODY + b" "))],
        [("x-hub-signature-256", signed()), ("x-hub-signature-256", signed())],
    ],
)
def test_not_signed(client: Client, headers: list[tuple[str, str]]) -> None:
    """Any other signature is refused."""
    assert client.post("/", body=BODY, headers=headers, plugins=PLUGINS).reply.status == 401


def test_long_body(client: Client) -> None:
    """A long body is refused, and no signature of it is computed."""
    body = b"x" * 1001
    headers = {"x-hub-signature-256": signed(body=body)}

    assert client.post("/", body=body, headers=headers, plugins=PLUGINS).reply.status == 413


@pytest.mark.parametrize("secrets", [[], [""], ["short"]])
def test_weak_secret(client: Client, secrets: list[str]) -> None:
    """A route without secrets, or with one that could be guessed, is refused."""
    with pytest.raises(ChainRefused):
        client.post("/", plugins=[("webhook-github", {"secrets": secrets})])
