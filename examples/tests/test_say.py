# SPDX-License-Identifier: Apache-2.0
"""plugins/say.py."""

import pytest

from apisix.testing import ChainRefused, Client


def test_says_it(client: Client) -> None:
    """The client gets the text, and the upstream nothing."""
    result = client.get("/", plugins=[("say", {"body": "Back at nine.", "status": 503})])

    assert (503, "Back at nine.") == (result.reply.status, result.reply.text)
    assert "text/plain; charset=utf-8" == result.reply.headers["content-type"]
    assert result.stopped


def test_needs_a_text(client: Client) -> None:
    """A route without the text is refused, and the error names the field."""
    with pytest.raises(ChainRefused, match="body"):
        client.get("/", plugins=[("say", {})])
