# SPDX-License-Identifier: Apache-2.0
"""
Require an OAuth 2.0 access token that the authorization server says is active: RFC 7662 (`pip install httpx`).

When to use it: if tokens are opaque, or must be refused as soon as they are revoked. The claims of active tokens
are cached for `cache_s`, for all workers, so a revoked token is accepted for that long. For tokens that are JWTs, oidc-jwks needs no
call.

Task: Authentication
Keywords: OAuth2, token introspection, RFC 7662, opaque token, Keycloak, bearer, scope, revoked token, cache, store
"""

import hashlib
import json
import re
import time
from typing import Annotated, Any

import httpx
import msgspec

from apisix import Plugin, Reply, Request

Secret = Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"writeOnly": True})]  # writeOnly: hidden in records


class Oauth2IntrospectionConfig(msgspec.Struct, frozen=True):
    """The introspection endpoint, with this gateway's own credentials for it, and what a token must have."""

    url: str
    client_id: str
    client_secret: Secret
    scopes: frozenset[str] = frozenset()
    audience: str = ""  # set it if the server issues tokens for other services too
    cache_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30.0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0


class Oauth2Introspection(Plugin[Oauth2IntrospectionConfig]):
    """Refuse requests without an active token. Send its subject to the upstream."""

    async def setup(self) -> None:
        self._client = httpx.AsyncClient(timeout=self.config.timeout_s, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        scheme, _, token = ",".join(request.headers.getall("authorization", [])).partition(" ")
        if scheme.lower() != "bearer" or re.fullmatch(r"[A-Za-z0-9._~+/-]{1,4096}=*", token) is None:
            return Reply(401, json={"error": "no token"}, headers={"www-authenticate": "Bearer"})
        claims = await self._claims_of(token)
        audience: object = claims.get("aud")
        is_for_us = self.config.audience in ("", audience) or (isinstance(audience, list) and self.config.audience in audience)
        if claims.get("active") is not True or not is_for_us:
            return Reply(401, json={"error": "invalid token"}, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        if not self.config.scopes <= set(str(claims.get("scope", "")).split()):
            return Reply(403, json={"error": "not allowed"}, headers={"www-authenticate": 'Bearer error="insufficient_scope"'})
        request.headers.update({"x_subject": "", "x-subject": str(claims.get("sub") or claims["client_id"])})  # in both spellings
        return None

    async def _claims_of(self, token: str) -> dict[str, Any]:
        config = self.config
        # A digest, so that the store contains no tokens. Routes with another server, or as another client, get other results.
        key = hashlib.sha256(json.dumps([config.url, config.client_id, token]).encode()).hexdigest()
        # fallback: if the store is not available, each request calls the server.
        cached: dict[str, Any] | None = await self.store.aget(key, fallback=None)
        if cached is not None:
            return cached
        answer = await self._client.post(config.url, data={"token": token}, auth=(config.client_id, config.client_secret))
        answer.raise_for_status()  # if the server fails, the request is refused with a 503
        claims = msgspec.json.decode(answer.content, type=dict[str, Any])
        now_s = time.time()
        exp: Any = claims.get("exp", now_s + config.cache_s)
        # Without a useful time, the claims are not cached, so the server decides each time.
        lifetime_s = min(config.cache_s, exp - now_s) if type(exp) in (int, float) and 0 < exp < 10**12 else 0.0
        if claims.get("active") is True and lifetime_s > 0:  # not the others, or a client that invents tokens can fill the store
            await self.store.aset(key, claims, lifetime_s, fallback=False)
        return claims
