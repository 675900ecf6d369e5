# SPDX-License-Identifier: Apache-2.0
"""plugins/hand_over.py."""

import pytest

from apisix.testing import Client

POST_REQ = "ext-plugin-post-req"


def test_tenant_is_handed_over(client: Client) -> None:
    """The second plugin uses the value that the first one has stored, in the same phase."""
    result = client.get("/orders?page=2", headers={"x-tenant": "Acme"}, plugins=["tenant-from-header", "tenant-path"])

    assert (result.upstream.path, result.upstream.query) == ("/tenants/acme/orders", "page=2")


def test_all_phases(client: Client) -> None:
    """The value is seen in the later phases of the request."""
    first = client.get("/orders", headers={"x-tenant": "acme"}, plugins=["tenant-from-header"])
    second = client.get("/orders", plugins=["tenant-path"], phase=POST_REQ, of=first)
    last = client.respond(200, plugins=["tenant-path"], of=second)

    assert second.upstream.path == "/tenants/acme/orders"
    assert last.response.headers["x-tenant"] == "acme"


def test_requests_at_the_same_time(client: Client) -> None:
    """Each request has a tenant of its own."""
    tenants = ["acme", "other"]
    results = [client.get("/", headers={"x-tenant": tenant}, plugins=["tenant-from-header"]) for tenant in tenants]
    responses = [client.respond(200, plugins=["tenant-path"], of=result) for result in results]

    assert [result.response.headers["x-tenant"] for result in responses] == tenants


@pytest.mark.parametrize("headers", [{}, {"x-tenant": ""}, {"x-tenant": "../evil"}])
def test_no_tenant(client: Client, headers: dict[str, str]) -> None:
    """A request without a valid name is refused."""
    result = client.get("/orders", headers=headers, plugins=["tenant-from-header", "tenant-path"])

    assert result.reply.status == 400


def test_wrong_order(client: Client) -> None:
    """The plugins run in the order of the route."""
    result = client.get("/orders", headers={"x-tenant": "acme"}, plugins=["tenant-path", "tenant-from-header"])

    assert result.reply.status == 400
