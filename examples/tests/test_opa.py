# SPDX-License-Identifier: Apache-2.0
"""plugins/opa.py."""

import json
from typing import Any

import pytest

from apisix.testing import Client, Result
from examples.tests.conftest import Service


def call(client: Client, service: Service, url: str = "/", **options: Any) -> Result:
    """Send a request."""
    return client.get(url, plugins=[("opa", {"url": service.url})], raise_errors=False, **options)


def test_input(client: Client, service: Service) -> None:
    """The policy gets the method, the parts of the path, the arguments, and the headers that are configured."""
    service.body = b'{"result": true}'
    headers = [("x-subject", "ali"), ("x-subject", "\udcff"), ("cookie", "a=1")]
    result = call(client, service, "/a%20b/%ff?id=1&id=2&flag", headers=headers)
    ((_, _, body),) = service.asked

    assert not result.stopped
    assert json.loads(body)["input"] == {
        "method": "GET",
        "path": ["a b", "\ufffd"],
        "query": {"id": ["1", "2"], "flag": [""]},
        "headers": {"x-subject": ["ali", "\ufffd"]},
        "client": "127.0.0.1",
    }


def test_headers(client: Client, service: Service) -> None:
    """An object can set headers."""
    service.body = b'{"result": {"allow": true, "headers": {"x-role": "admin"}}}'

    assert call(client, service, headers={"x-role": "root"}).upstream.headers["x-role"] == "admin"


@pytest.mark.parametrize("body", ['{"result": false}', "{}", '{"result": {}}', '{"result": {"allow": false}}', '{"result": {"allow": 1}}'])
def test_denied(client: Client, service: Service, body: str) -> None:
    """Any other result denies, also that of a rule that does not exist."""
    service.body = body.encode()

    assert call(client, service).reply.status == 403


@pytest.mark.parametrize(("status", "body"), [(500, b'{"result": true}'), (200, b""), (200, b'{"result": "true"}'), (200, b"[]")])
def test_no_decision(client: Client, service: Service, status: int, body: bytes) -> None:
    """If OPA fails, the request is refused."""
    service.status, service.body = status, body

    assert call(client, service).reply.status == 503


@pytest.mark.parametrize(
    ("raw", "url"), [("/admin/..%2fpublic", "/public"), ("//public", "/public"), ("/./a", "/a"), ("/a%2Fb", "/a/b"), ("/a%5Cb", "/a%5Cb")]
)
def test_ambiguous_path(client: Client, service: Service, raw: str, url: str) -> None:
    """A path that the upstream could read differently is refused: it gets the path as the client has sent it."""
    assert call(client, service, url, vars={"real_request_uri": raw}).reply.status == 400
    assert service.asked == []


def test_many_arguments(client: Client, service: Service) -> None:
    """The gateway sends at most 100 arguments and headers to plugins, and all to the upstream."""
    service.body = b'{"result": true}'

    assert call(client, service, "/?" + "a=1&" * 100).reply.status == 400
    assert call(client, service, headers=[(f"x-{number}", "1") for number in range(100)]).reply.status == 400
    assert not call(client, service, "/?" + "a=1&" * 99, headers=[(f"x-{number}", "1") for number in range(90)]).stopped
