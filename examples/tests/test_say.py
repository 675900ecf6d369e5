# SPDX-License-Identifier: Apache-2.0
"""plugins/say.py."""

import pytest

from apisix.testing import ChainRefused, Client


def test_says_it(client: Client) -> None:
    """The client gets the text, and the upstream gets no request."""
    result = client.get("/", plugins=[("say", {"body": "Back at nine.", "status": 503})])

    assert (result.reply.status, result.reply.text) == (503, "Back at nine.")
    assert result.reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert result.stopped


def test_needs_a_text(client: Client) -> None:
    """A route without a text is refused, and the error names the field."""
    with pytest.raises(ChainRefused, match="body"):
        client.get("/", plugins=[("say", {})])
