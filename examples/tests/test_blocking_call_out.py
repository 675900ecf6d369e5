# SPDX-License-Identifier: Apache-2.0
"""plugins/blocking_call_out.py."""

import pytest

from apisix.testing import Client
from examples.tests.conftest import Service


def test_country_reaches_the_upstream(client: Client, service: Service) -> None:
    """The service gets the client's address, and the upstream gets the country that it returns."""
    service.body = b'{"country": "NZ"}'
    plugins = [("blocking-call-out", {"url": service.url})]
    result = client.get("/", headers={"x-country": "XX"}, remote_addr="2001:db8::1", plugins=plugins)

    assert [target for target, _, _ in service.asked] == ["/?address=2001%3Adb8%3A%3A1"]
    assert result.upstream.headers["x-country"] == "NZ"


@pytest.mark.parametrize("body", [b"", b"oops", b"{}"])
def test_service_is_broken(client: Client, service: Service, body: bytes) -> None:
    """The request continues without a country, also without the one that the client sent."""
    service.body = body
    result = client.get("/", headers={"x-country": "XX"}, plugins=[("blocking-call-out", {"url": service.url})])

    assert "x-country" not in result.upstream.headers


def test_failure_of_the_service(client: Client, service: Service) -> None:
    """What a service sends with its failure is not used."""
    service.status, service.body = 500, b'{"country": "NZ"}'
    result = client.get("/", headers={"x-country": "XX"}, plugins=[("blocking-call-out", {"url": service.url})])

    assert "x-country" not in result.upstream.headers
