# SPDX-License-Identifier: Apache-2.0
"""plugins/key_auth.py."""

import pytest

from apisix.testing import ChainRefused, Client

KEY_AUTH = ("key-auth", {"keys": ["alpha", "beta"]})


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"x-api-key": "alph"}, {"x-api-key": "alpha "}, {"x-api-key": "\udcff"}])
def test_unknown_key(client: Client, headers: dict[str, str]) -> None:
    """Without a known key there is a 401, whatever bytes the header holds."""
    result = client.get("/", headers=headers, plugins=[KEY_AUTH])

    assert (401, {"error": "unknown key"}) == (result.reply.status, result.reply.json())


def test_known_key(client: Client) -> None:
    """The upstream learns that somebody was let in, by the gateway's word and not the client's, and does not get the key."""
    result = client.get("/", headers={"X-API-Key": "beta", "x-authenticated": "of course"}, plugins=[KEY_AUTH])

    assert "yes" == result.upstream.headers["x-authenticated"]
    assert "x-api-key" not in result.upstream.headers


@pytest.mark.parametrize("keys", [[], ["alpha", ""]])
def test_keys_that_let_everybody_in(client: Client, keys: list[str]) -> None:
    """A route without keys, or with an empty one, is a mistake, and refused."""
    with pytest.raises(ChainRefused, match="at least one key, and no empty one"):
        client.get("/", plugins=[("key-auth", {"keys": keys})])
