# SPDX-License-Identifier: Apache-2.0
"""The methods of HTTP as methods of the test client."""

import pytest

from apisix.testing import Client

METHODS = pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete"])


@METHODS
def test_method(client: Client, method: str) -> None:
    """Each method of HTTP is a method of the client."""
    result = getattr(client, method)("/a", plugins=[], headers={"x-a": "1"})

    assert (method.upper(), "/a", "1") == (result.upstream.method, result.upstream.path, result.upstream.headers["x-a"])


@METHODS
async def test_twin(client: Client, method: str) -> None:
    """Each has a twin for async tests."""
    result = await getattr(client, f"a{method}")("/a", plugins=[], headers={"x-a": "1"})

    assert (method.upper(), "/a", "1") == (result.upstream.method, result.upstream.path, result.upstream.headers["x-a"])


def test_other_methods(client: Client) -> None:
    """Methods without a name here, which the protocol knows, are sent by `request`, in any case of letters."""
    result = client.request("propfind", "/a", plugins=[])

    assert "PROPFIND" == result.upstream.method
