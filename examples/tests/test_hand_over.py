# SPDX-License-Identifier: Apache-2.0
"""plugins/hand_over.py."""

import pytest

from apisix.testing import Client


def test_tenant_is_handed_over(client: Client) -> None:
    """What the first plugin finds, the second one uses."""
    result = client.get("/orders?page=2", headers={"x-tenant": "Acme"}, plugins=["tenant-from-header", "tenant-path"])

    assert ("/tenants/acme/orders", "page=2") == (result.upstream.path, result.upstream.query)
    assert "acme" == result.upstream.headers["x-tenant"]


@pytest.mark.parametrize("headers", [{}, {"x-tenant": ""}, {"x-tenant": "../evil"}])
def test_no_tenant(client: Client, headers: dict[str, str]) -> None:
    """Without a name that can be a name nothing goes on."""
    result = client.get("/orders", headers=headers, plugins=["tenant-from-header", "tenant-path"])

    assert 400 == result.reply.status


def test_wrong_order(client: Client) -> None:
    """The order is the route's, and it matters."""
    result = client.get("/orders", headers={"x-tenant": "acme"}, plugins=["tenant-path", "tenant-from-header"])

    assert 400 == result.reply.status
