# SPDX-License-Identifier: Apache-2.0
"""
Require an OAuth 2.0 access token that the authorization server says is active: RFC 7662 (`pip install httpx`).

When to use it: if tokens are opaque, or must be refused as soon as they are revoked. Results are cached for `cache_s`, so a
revoked token is accepted for that long. For tokens that are JWTs, oidc-jwks needs no call.

Task: Authentication
Keywords: OAuth2, token introspection, RFC 7662, opaque token, Keycloak, bearer, scope, revoked token, cache
"""

import hashlib
import re
import time
from collections import OrderedDict
from typing import Annotated, Any

import httpx
import msgspec

from apisix import Plugin, Reply, Request

Secret = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"writeOnly": True})]  # writeOnly: hidden in records


class Oauth2IntrospectionConfig(msgspec.Struct, frozen=True):
    """The introspection endpoint, with this gateway's own credentials for it, and the scopes that a token must have."""

    url: str
    client_id: str
    client_secret: Secret
    scopes: frozenset[str] = frozenset()
    cache_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30.0
    max_cached: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    timeout_s: float = 2.0


class Oauth2Introspection(Plugin[Oauth2IntrospectionConfig]):
    """Refuse requests without an active token. Send its subject to the upstream."""

    async def setup(self) -> None:
        self._client = httpx.AsyncClient(timeout=self.config.timeout_s, trust_env=False)
        self._cache: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()  # hash of the token: expiry, result

    async def close(self) -> None:
        await self._client.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or re.fullmatch(r"[A-Za-z0-9._~+/-]{1,4096}=*", token) is None:
            return Reply(401, json={"error": "no token"}, headers={"www-authenticate": "Bearer"})
        claims = await self._claims_of(token)
        if claims.get("active") is not True:
            return Reply(401, json={"error": "invalid token"}, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        if not self.config.scopes <= set(str(claims.get("scope", "")).split()):
            return Reply(403, json={"error": "not allowed"}, headers={"www-authenticate": 'Bearer error="insufficient_scope"'})
        request.headers["x-subject"] = str(claims.get("sub") or claims["client_id"])  # replaces a header that the client sent
        return None

    async def _claims_of(self, token: str) -> dict[str, Any]:
        key = hashlib.sha256(token.encode()).digest()  # so that the cache contains no tokens
        expires_at, claims = self._cache.get(key, (0.0, {}))
        if time.time() < expires_at:
            return claims
        config = self.config
        answer = await self._client.post(config.url, data={"token": token}, auth=(config.client_id, config.client_secret))
        answer.raise_for_status()  # if the server fails, the request is refused with a 503
        claims = msgspec.json.decode(answer.content, type=dict[str, Any])
        expires_at = time.time() + config.cache_s
        self._cache[key] = (min(expires_at, claims.get("exp", expires_at)), claims)
        if len(self._cache) > config.max_cached:
            self._cache.popitem(last=False)  # limit the size, or a client that invents tokens can fill the memory
        return claims
