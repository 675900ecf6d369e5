# SPDX-License-Identifier: Apache-2.0
"""Headers that plugins set for upstreams."""

from apisix.testing import Client


def test_spelling_with_an_underscore(client: Client) -> None:
    """A client can't add a second spelling of a header that a plugin sets, because many upstreams read both as the same header."""
    sent = client.get("/", headers={"x_variant": "evil"}, plugins=[("canary", {"percentage": 100})]).upstream.headers

    spellings = [(name.lower(), value) for name, value in sent.items() if name.lower().replace("_", "-") == "x-variant"]
    assert spellings == [("x-variant", "canary")]


def test_header_that_the_gateway_has_not_sent(client: Client) -> None:
    """It is replaced too."""
    headers = [*((f"x-{number}", "1") for number in range(100)), ("x_variant", "evil")]
    sent = client.get("/", headers=headers, plugins=[("canary", {"percentage": 100})]).upstream.headers

    assert (sent.get("x_variant"), sent["x-variant"]) == (None, "canary")
