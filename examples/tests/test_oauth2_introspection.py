# SPDX-License-Identifier: Apache-2.0
"""plugins/oauth2_introspection.py."""

import base64
import json
import time
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result
from examples.tests.conftest import Service


def call(client: Client, service: Service, bearer: str = "abc", **config: Any) -> Result:
    """Send a request with a token, and the header that the client must not choose."""
    plugins = [("oauth2-introspection", {"url": service.url, "client_id": "gw", "client_secret": "s3", **config})]
    headers = {"authorization": f"Bearer {bearer}", "x-subject": "root"}
    return client.get("/", headers=headers, plugins=plugins, raise_errors=False)


def answer(service: Service, **claims: Any) -> None:
    """Set what the authorization server returns."""
    service.body = json.dumps(claims).encode()


def test_active(client: Client, service: Service) -> None:
    """The server gets the token with the gateway's credentials. The upstream gets the subject."""
    answer(service, active=True, sub="ali", scope="read write")
    result = call(client, service, scopes=["read"])
    ((_, headers, body),) = service.asked

    assert body == b"token=abc"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"gw:s3"
    assert result.upstream.headers["x-subject"] == "ali"


@pytest.mark.parametrize("claims", [{"active": False}, {"active": "true"}, {}, {"active": False, "sub": "ali"}])
def test_not_active(client: Client, service: Service, claims: dict[str, Any]) -> None:
    """A token that is not active is refused."""
    answer(service, **claims)

    assert call(client, service).reply.status == 401


def test_scopes(client: Client, service: Service) -> None:
    """A token without one of the scopes is refused."""
    answer(service, active=True, sub="ali", scope="reading")

    assert call(client, service, scopes=["read"]).reply.status == 403


@pytest.mark.parametrize("token", ["", "a b", "a&token=b", "\udcff", "x" * 5000])
def test_no_token(client: Client, service: Service, token: str) -> None:
    """Text that is not a token is refused, and is not sent to the server."""
    assert call(client, service, token).reply.status == 401
    assert service.asked == []


@pytest.mark.parametrize(("exp_in_s", "calls"), [(None, 1), (60, 1), (-1, 3)])
def test_cache(client: Client, service: Service, exp_in_s: int | None, calls: int) -> None:
    """The result is cached, but not for longer than the token is valid."""
    answer(service, active=True, sub="ali", **({} if exp_in_s is None else {"exp": time.time() + exp_in_s}))
    statuses: Iterable[bool] = [call(client, service).stopped for _ in range(3)]

    assert (list(statuses), len(service.asked)) == ([False] * 3, calls)


@pytest.mark.parametrize("exp", [None, True, "soon", -1, -(10**400), 10**400, 1e300, [1]])
def test_time_that_is_not_useful(client: Client, service: Service, exp: object) -> None:
    """The token is active, because the server reports it, but the result is not cached."""
    answer(service, active=True, sub="ali", exp=exp)
    statuses = [call(client, service).stopped for _ in range(2)]

    assert (statuses, len(service.asked)) == ([False] * 2, 2)


def test_workers_share_the_cache(client: Client, apisix_registry: Registry, service: Service) -> None:
    """A result is found in each worker, but only for the same token, server and client."""
    answer(service, active=True, sub="ali")
    with Client(registry=apisix_registry, share_store=client) as other:
        for each in (client, other):
            call(each, service)
        shared = len(service.asked)
        call(other, service, "other")
        call(other, service, client_id="other")
        call(other, service, url=f"{service.url}other")

    assert (shared, len(service.asked)) == (1, 4)


def test_expiry(client: Client, service: Service) -> None:
    """A result is used for as long as configured. Then the server can refuse the token."""
    answer(service, active=True, sub="ali")
    call(client, service)
    answer(service, active=False)
    before = call(client, service).stopped
    client.advance(31)

    assert (before, call(client, service).stopped) == (False, True)


def test_tokens_that_are_not_active(client: Client, service: Service) -> None:
    """Tokens that a client has invented are not cached."""
    answer(service, active=False)
    for _ in range(2):
        call(client, service)

    assert len(service.asked) == 2


def test_no_cache(client: Client, service: Service) -> None:
    """Without a cache, a revoked token is refused at once."""
    answer(service, active=True, sub="ali")
    for _ in range(2):
        call(client, service, cache_s=0)

    assert len(service.asked) == 2


@pytest.mark.parametrize(("status", "body"), [(500, b'{"active": true}'), (401, b"{}"), (200, b"no JSON"), (200, b"[]")])
def test_no_answer(client: Client, service: Service, status: int, body: bytes) -> None:
    """If the server fails, the request is refused, and the failure is not cached."""
    service.status, service.body = status, body

    assert call(client, service).reply.status == 503
    service.status = 200
    answer(service, active=True, sub="ali")
    assert not call(client, service).stopped


def test_no_server(client: Client) -> None:
    """If the server can't be reached, the request is refused."""
    plugins = [("oauth2-introspection", {"url": "http://127.0.0.1:1/", "client_id": "gw", "client_secret": "s3"})]
    with pytest.raises(httpx.ConnectError):
        client.get("/", headers={"authorization": "Bearer abc"}, plugins=plugins)


def test_two_tokens(client: Client, service: Service) -> None:
    """A request with two tokens is refused, because the upstream could read the other one."""
    headers = [("authorization", "Bearer abc"), ("authorization", "Bearer x")]
    plugins = [("oauth2-introspection", {"url": service.url, "client_id": "gw", "client_secret": "s3"})]

    assert client.get("/", headers=headers, plugins=plugins).reply.status == 401


@pytest.mark.parametrize(
    ("aud", "status"), [("api", 200), (["other", "api"], 200), ("other", 401), (["apis"], 401), (None, 401), ({"api": 1}, 401)]
)
def test_audience(client: Client, service: Service, aud: Any, status: int) -> None:
    """If an audience is configured, tokens for other services are refused."""
    answer(service, active=True, sub="ali", **({} if aud is None else {"aud": aud}))
    result = call(client, service, audience="api")

    assert (result.reply.status if result.stopped else 200) == status
