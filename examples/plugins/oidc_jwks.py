# SPDX-License-Identifier: Apache-2.0
"""
Require a JSON Web Token of an OpenID Connect provider, whose keys change (`pip install httpx "PyJWT[crypto]"`).

When to use it: if a provider such as Keycloak, Auth0 or Entra ID signs tokens and rotates its keys. The keys are fetched in the
background, and for an unknown key id, at most every `refresh_s`. If the provider fails, the old ones are used until `max_age_s`.

Task: Authentication
Keywords: OIDC, OpenID Connect, JWKS, key rotation, kid, JWT, Keycloak, Auth0, Entra ID, Okta, PyJWKClient, async
"""

import asyncio
from time import monotonic
from typing import Annotated, Any, Literal

import httpx
import jwt
import msgspec

from apisix import Plugin, Reply, Request

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]  # not HS256: its key would be a secret


class OidcJwksConfig(msgspec.Struct, frozen=True):
    """The URL of the keys, and the claims that a token must have."""

    jwks_url: str
    issuer: str
    audience: str
    algorithms: Annotated[tuple[Algorithm, ...], msgspec.Meta(min_length=1)] = ("RS256",)
    refresh_s: float = 10.0
    max_age_s: Annotated[float, msgspec.Meta(ge=60)] = 3600.0  # after that, keys that the provider has removed are no longer accepted


class OidcJwks(Plugin[OidcJwksConfig]):
    """Refuse requests without a valid token of the provider. Send its subject to the upstream."""

    shared_state = ("_keys", "_good_until_s", "_tried_s")  # assigned in calls, and meant for all of them

    async def setup(self) -> None:
        self._lock = asyncio.Lock()
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._good_until_s = self._tried_s = float("-inf")

    async def background(self) -> None:
        while True:
            await asyncio.sleep(self.config.max_age_s / 4)
            await self._fetch()

    async def on_request(self, request: Request) -> Reply | None:
        scheme, _, text = ",".join(request.headers.getall("authorization", [])).partition(" ")
        token = text.encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""
        config = self.config
        required: Any = {"require": ["exp", "iss", "aud", "sub"]}
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(token, key, list(config.algorithms), required, audience=config.audience, issuer=config.issuer, leeway=30)
        except (jwt.InvalidTokenError, KeyError):  # KeyError: an unknown key
            return Reply(401, json={"error": "invalid token"}, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        request.headers.update({"x_subject": "", "x-subject": str(claims["sub"])})  # replaces what the client sent, in both spellings
        return None

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        if kid not in self._keys or monotonic() >= self._good_until_s:
            async with self._lock:  # one call fetches, and those that waited for it find the key
                # Tokens with invented ids must not cause a request each, and neither must calls while the provider fails.
                if (kid not in self._keys or monotonic() >= self._good_until_s) and monotonic() - self._tried_s >= self.config.refresh_s:
                    await self._fetch()
        if monotonic() >= self._good_until_s:
            raise RuntimeError("the keys of the provider are not available")  # the request is refused with a 503
        return self._keys[kid]

    async def _fetch(self) -> None:
        self._tried_s = monotonic()
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            answer = await client.get(self.config.jwks_url)
        keys = jwt.PyJWKSet.from_dict(answer.raise_for_status().json()).keys
        self._keys = {key.key_id: key for key in keys if key.public_key_use in (None, "sig")}
        self._good_until_s = monotonic() + self.config.max_age_s
