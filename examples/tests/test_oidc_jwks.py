# SPDX-License-Identifier: Apache-2.0
"""plugins/oidc_jwks.py."""

import asyncio
import json
import sys
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result
from examples.tests.conftest import Service

KEYS = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("one", "two")}
CLAIMS = {"sub": "ali", "aud": "api", "iss": "https://login.example.com"}


def jwks(*kids: str, **members: str) -> bytes:
    """Return what the JWKS URL serves."""
    keys = [ECAlgorithm.to_jwk(KEYS[kid].public_key(), as_dict=True) | {"kid": kid, "alg": "ES256", **members} for kid in kids]
    return json.dumps({"keys": keys}).encode()


def token(kid: str | None = "one", key: Any = None, algorithm: str = "ES256", **claims: object) -> str:
    """Return a signed token. Claims that are None are omitted."""
    given = {"exp": time.time() + 60, **CLAIMS, **claims}
    present = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(present, key or KEYS[kid or "one"], algorithm, headers={"kid": kid} if kid else {})


def plugins(service: Service, **config: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the chain."""
    found = {"jwks_url": service.url, "issuer": CLAIMS["iss"], "audience": "api", "algorithms": ["ES256"]}
    return [("oidc-jwks", found | config)]


def call(client: Client, service: Service, bearer: str, **config: Any) -> Result:
    """Send a request with a token."""
    headers = {"authorization": f"Bearer {bearer}", "x-subject": "root"}
    return client.get("/", headers=headers, plugins=plugins(service, **config), raise_errors=False)


def test_valid(client: Client, service: Service) -> None:
    """The keys are fetched once. The upstream gets the subject of the token."""
    service.body = jwks("one", "two")
    results = [call(client, service, token(kid)) for kid in ("one", "two", "one")]

    assert [result.upstream.headers["x-subject"] for result in results] == ["ali"] * 3
    assert len(service.asked) == 1


def test_rotation(client: Client, service: Service) -> None:
    """A new key is fetched when a token names it, and a removed key is refused from then on."""
    service.body = jwks("one")
    assert not call(client, service, token("one"), refresh_s=0).stopped
    service.body = jwks("two")

    assert not call(client, service, token("two"), refresh_s=0).stopped
    assert call(client, service, token("one"), refresh_s=0).reply.status == 401


@pytest.fixture
def clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose only item is the time that the plugin reads."""
    now_s = [1000.0]
    monkeypatch.setattr(sys.modules[client.plugin("oidc-jwks").__module__], "monotonic", lambda: now_s[0])
    return now_s


def test_removed_key(client: Client, service: Service, clock: list[float]) -> None:
    """When the keys are too old, they are fetched again, although the key is known. Until that succeeds, requests are refused."""
    service.body = jwks("one")
    assert not call(client, service, token("one")).stopped
    clock[0] += 3601
    service.status = 500
    assert [call(client, service, token("one")).reply.status for _ in range(3)] == [503] * 3
    assert len(service.asked) == 2
    clock[0] += 11
    service.status, service.body = 200, jwks("two")

    assert call(client, service, token("one")).reply.status == 401


def test_invented_ids(client: Client, service: Service) -> None:
    """Tokens with unknown key ids do not cause a request each."""
    service.body = jwks("one")
    statuses = [call(client, service, token(f"k{n}", KEYS["one"])).reply.status for n in range(5)]

    assert (statuses, len(service.asked)) == ([401] * 5, 1)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="no token"),
        pytest.param("\udcff", id="no text"),
        pytest.param(token(exp=time.time() - 60), id="expired"),
        pytest.param(token(exp=None), id="valid for ever"),
        pytest.param(token(aud="another"), id="another audience"),
        pytest.param(token(iss="https://evil.example.com"), id="another issuer"),
        pytest.param(token(sub=None), id="no subject"),
        pytest.param(token("one", KEYS["two"]), id="another key"),
        pytest.param(token(None), id="no key id"),
        pytest.param(token("one", "x" * 32, "HS256"), id="HS256"),
    ],
)
def test_bad_token(client: Client, service: Service, bad: str) -> None:
    """Any other token is refused."""
    service.body = jwks("one")

    assert call(client, service, bad).reply.status == 401


def test_key_for_encryption(client: Client, service: Service) -> None:
    """A key that is not for signatures is not used."""
    service.body = jwks("one", use="enc")

    assert call(client, service, token()).reply.status == 401


@pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"no JSON"), (200, b"[]"), (200, b'{"keys": []}')])
def test_no_keys(client: Client, service: Service, clock: list[float], status: int, body: bytes) -> None:
    """If the provider fails, requests are refused with a 503, and a later one fetches again."""
    service.status, service.body = status, body
    assert call(client, service, token()).reply.status == 503
    clock[0] += 11
    service.status, service.body = 200, jwks("one")

    assert not call(client, service, token()).stopped


async def test_calls_share_a_request(apisix_registry: Registry, service: Service) -> None:
    """Calls that need the keys at the same time wait for one request."""
    service.body = jwks("one")
    headers = {"authorization": f"Bearer {token()}"}
    async with Client(registry=apisix_registry) as client:
        await client.aget("/", plugins=plugins(service))  # creates the instance
        results = await asyncio.gather(*(client.aget("/", headers=headers, plugins=plugins(service)) for _ in range(5)))

    assert ([result.stopped for result in results], len(service.asked)) == ([False] * 5, 1)


def test_two_tokens(client: Client, service: Service) -> None:
    """A request with two tokens is refused, because the upstream could read the other one."""
    service.body = jwks("one")
    headers = [("authorization", f"Bearer {token()}"), ("authorization", "Bearer x")]

    assert client.get("/", headers=headers, plugins=plugins(service)).reply.status == 401


def test_keys_are_fetched_before_they_expire(client: Client, service: Service, clock: list[float]) -> None:
    """The background task fetches the keys, so that calls do not depend on the provider when the keys expire."""
    cls: Any = client.plugin("oidc-jwks")
    plugin = cls()
    plugin.config = cls.__orig_bases__[0].__args__[0](service.url, CLAIMS["iss"], "api", ("ES256",), max_age_s=60.0)
    service.body = jwks("one")
    waits: list[float] = []

    async def wait(delay_s: float) -> None:
        waits.append(delay_s)
        if len(waits) == 3:
            raise asyncio.CancelledError

    async def scenario() -> None:
        await plugin.setup()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[cls.__module__].asyncio, "sleep", wait)
            with pytest.raises(asyncio.CancelledError):
                await plugin.background()

    asyncio.run(scenario())

    assert (set(waits), len(service.asked), list(plugin._keys)) == ({15.0}, 2, ["one"])
