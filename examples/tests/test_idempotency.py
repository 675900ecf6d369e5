# SPDX-License-Identifier: Apache-2.0
"""plugins/idempotency.py."""

from typing import Any

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

POST_REQ = "ext-plugin-post-req"
KEY = {"idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def send(client: Client, method: str = "POST", headers: Any = KEY, body: bytes = b'{"amount": 5}', **more: Any) -> Result:
    """Send a request in the phase after the gateway's own plugins."""
    plugins = [("idempotency", more.pop("config", {}))]
    return client.request(method, more.pop("url", "/pay"), headers=headers, body=body, plugins=plugins, phase=POST_REQ, **more)


def respond(client: Client, of: Result, status: int = 201, body: bytes = b'{"id": 1}', **config: Any) -> Result:
    """Send the response of the upstream."""
    headers = {"content-type": "application/json", "location": "/pay/1", "set-cookie": "login=1"}
    return client.respond(status, headers, body, plugins=[("idempotency", config)], of=of)


@pytest.mark.parametrize("status", [201, 402, 500])
def test_retry(client: Client, apisix_registry: Registry, status: int) -> None:
    """A retry in another worker gets the stored response, whatever its status. Cookies are not repeated."""
    with Client(registry=apisix_registry, share_store=client) as other:
        first = send(client)
        last = respond(client, first, status)
        retry = send(other)

    assert (first.stopped, last.response.status, last.response.body) == (False, status, b'{"id": 1}')
    assert (retry.reply.status, retry.reply.body) == (status, b'{"id": 1}')
    assert dict(retry.reply.headers) == {"content-type": "application/json", "location": "/pay/1", "idempotency-replayed": "true"}


def test_at_the_same_time(client: Client, apisix_registry: Registry) -> None:
    """While the first request is in progress, others are refused, in all workers."""
    with Client(registry=apisix_registry, share_store=client) as other:
        results = [send(each) for each in (client, other, client)]

    assert [result.stopped for result in results] == [False, True, True]
    assert (results[1].reply.status, results[1].reply.headers["retry-after"]) == (409, "1")


@pytest.mark.parametrize("change", [{"body": b'{"amount": 6}'}, {"url": "/pay?twice=1"}, {"url": "/other"}, {"method": "PATCH"}])
@pytest.mark.parametrize("is_complete", [False, True])
def test_another_request(client: Client, change: dict[str, Any], *, is_complete: bool) -> None:
    """A key that was used for another request is refused."""
    first = send(client)
    if is_complete:
        respond(client, first)

    assert send(client, **change).reply.status == 422


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {**KEY, "authorization": "Bearer b"}},
        {"headers": {**KEY, "cookie": "login=2"}},
        {"vars": {"consumer_name": "zoe"}},
        {"vars": {"route_id": "2"}},
        {"headers": {"idempotency-key": "another"}},
    ],
)
def test_another_client(client: Client, change: dict[str, Any]) -> None:
    """A client never gets the response of another one, even with the same key and the same request."""
    respond(client, send(client))

    assert not send(client, **change).stopped


@pytest.mark.parametrize("key", ["", "a b", "é", "\udcff", "x" * 256])
def test_invalid_key(client: Client, key: str) -> None:
    """A key that is empty, long, or not visible ASCII is refused."""
    assert send(client, headers={"idempotency-key": key}).reply.status == 400


def test_number_of_keys(client: Client) -> None:
    """Two keys are refused. A request without a key is refused only if the route requires one."""
    assert send(client, headers=[("idempotency-key", "a"), ("idempotency-key", "b")]).reply.status == 400
    assert send(client, headers={}, config={"required": True}).reply.status == 400
    assert not send(client, headers={}).stopped
    assert not send(client, headers={}).stopped


def test_other_methods(client: Client) -> None:
    """Methods that are idempotent anyway pass, and their responses are not stored."""
    first = send(client, method="PUT")
    last = respond(client, first)

    assert (first.stopped, last.response.status) == (False, 201)
    assert not send(client, method="PUT").stopped


def test_long_response(client: Client) -> None:
    """If the response is too long to be stored, its client gets it, and a retry is refused."""
    last = respond(client, send(client), body=b"x" * 11, max_body_bytes=10)

    assert last.response.body == b"x" * 11
    assert send(client).reply.status == 409


def test_response_that_is_longer_than_the_runner_reads(client: Client) -> None:
    """Its client gets it, and a retry is refused for as long as a response is kept, not only while the lock lasts."""
    body = bytes(17 << 20)
    last = respond(client, send(client), body=body)
    client.advance(1000)
    retry = send(client)

    assert (last.response.body == body, retry.reply.status, "too long" in retry.reply.text) == (True, 409, True)


@pytest.mark.parametrize("status", [429, 503])
def test_request_that_was_not_executed(client: Client, status: int) -> None:
    """If the upstream says that it has not executed the request, a retry reaches it."""
    respond(client, send(client), status)

    assert not send(client).stopped


@pytest.mark.parametrize("change", [{"authorization": "Bearer b"}, {"cookie": "login=2"}])
def test_retry_of_a_consumer_with_other_credentials(client: Client, change: dict[str, str]) -> None:
    """A consumer that has a new token or cookie gets the stored response."""
    consumer = {"consumer_name": "ali"}
    respond(client, send(client, vars=consumer))

    assert send(client, headers={**KEY, **change}, vars=consumer).reply.status == 201


def test_no_response(client: Client) -> None:
    """If the upstream never responds, the key can be used again when the lock has expired."""
    late = send(client, config={"lock_s": 10})
    client.advance(11)
    second = send(client, config={"lock_s": 10})
    respond(client, late, body=b"late")

    assert not second.stopped
    assert send(client).reply.status == 409  # the late response did not take the key from the second request


def test_expiry(client: Client) -> None:
    """A stored response is kept for as long as configured."""
    respond(client, send(client), keep_s=100)
    client.advance(99)
    before = send(client)
    client.advance(2)

    assert (before.stopped, send(client).stopped) == (True, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("lock_s", "keep_s") for value in (0, -1, True, "5", None, float("nan"), 1e-300, 1e300)),
        ("header", ""),
        ("header", "idempotency key"),
        ("scope", []),
        ("LOCK_S", 5.0),
    ],
)
def test_invalid_configurations(client: Client, name: str, value: object) -> None:
    """A configuration without which a request could run twice is refused."""
    with pytest.raises(ChainRefused, match=name):
        send(client, config={name: value})
