# SPDX-License-Identifier: Apache-2.0
"""The HTTP methods as methods of the test client."""

import pytest

from apisix.testing import Client

METHODS = pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete"])


@METHODS
def test_method(client: Client, method: str) -> None:
    """Each HTTP method is a method of the client."""
    result = getattr(client, method)("/a", plugins=[], headers={"x-a": "1"})

    assert (result.upstream.method, result.upstream.path, result.upstream.headers["x-a"]) == (method.upper(), "/a", "1")


@METHODS
async def test_async_variant(client: Client, method: str) -> None:
    """Each method has an async variant."""
    result = await getattr(client, f"a{method}")("/a", plugins=[], headers={"x-a": "1"})

    assert (result.upstream.method, result.upstream.path, result.upstream.headers["x-a"]) == (method.upper(), "/a", "1")


def test_other_methods(client: Client) -> None:
    """`request` sends all other methods that the protocol supports. Their case does not matter."""
    result = client.request("propfind", "/a", plugins=[])

    assert result.upstream.method == "PROPFIND"
