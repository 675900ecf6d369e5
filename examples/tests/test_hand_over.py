# SPDX-License-Identifier: Apache-2.0
"""plugins/hand_over.py."""

import pytest

from apisix.testing import Client


def test_tenant_is_handed_over(client: Client) -> None:
    """The second plugin uses the value that the first one has stored."""
    result = client.get("/orders?page=2", headers={"x-tenant": "Acme"}, plugins=["tenant-from-header", "tenant-path"])

    assert (result.upstream.path, result.upstream.query) == ("/tenants/acme/orders", "page=2")
    assert result.upstream.headers["x-tenant"] == "acme"


@pytest.mark.parametrize("headers", [{}, {"x-tenant": ""}, {"x-tenant": "../evil"}])
def test_no_tenant(client: Client, headers: dict[str, str]) -> None:
    """A request without a valid name is refused."""
    result = client.get("/orders", headers=headers, plugins=["tenant-from-header", "tenant-path"])

    assert result.reply.status == 400


def test_wrong_order(client: Client) -> None:
    """The plugins run in the order of the route."""
    result = client.get("/orders", headers={"x-tenant": "acme"}, plugins=["tenant-path", "tenant-from-header"])

    assert result.reply.status == 400
