# SPDX-License-Identifier: Apache-2.0
"""plugins/key_auth.py."""

import pytest

from apisix.testing import ChainRefused, Client

KEY_AUTH = ("key-auth", {"keys": ["alpha", "beta"]})


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"x-api-key": "alph"}, {"x-api-key": "alpha "}, {"x-api-key": "\udcff"}])
def test_unknown_key(client: Client, headers: dict[str, str]) -> None:
    """A request without a known key gets a 401, whatever bytes the header contains."""
    result = client.get("/", headers=headers, plugins=[KEY_AUTH])

    assert (result.reply.status, result.reply.json()) == (401, {"error": "unknown key"})


def test_known_key(client: Client) -> None:
    """The upstream gets the header of the plugin, and not the one of the client. It does not get the key."""
    result = client.get("/", headers={"X-API-Key": "beta", "x-authenticated": "of course"}, plugins=[KEY_AUTH])

    assert result.upstream.headers["x-authenticated"] == "yes"
    assert "x-api-key" not in result.upstream.headers


@pytest.mark.parametrize("keys", [[], ["alpha", ""]])
def test_keys_that_let_everybody_in(client: Client, keys: list[str]) -> None:
    """A route without keys, or with an empty key, is refused."""
    with pytest.raises(ChainRefused, match="at least one key, and no empty key"):
        client.get("/", plugins=[("key-auth", {"keys": keys})])
