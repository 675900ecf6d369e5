# SPDX-License-Identifier: Apache-2.0
"""
Require a JSON Web Token of an issuer that you trust (`pip install "PyJWT[crypto]"`).

When to use it: if a login service signs tokens, and you do not want to check them in every upstream.

Task: Authentication
Keywords: JWT, bearer token, JSON Web Token, RS256, ES256, PyJWT
"""

import logging
from typing import Literal

import jwt
import msgspec

from apisix import Plugin, Reply, Request

logger = logging.getLogger(__name__)


class JwtAuthConfig(msgspec.Struct, frozen=True):
    """The key and the expected claims. The algorithm is configured, because an attacker can choose the one that a token names."""

    key: str  # the public key as PEM, or the shared secret of HS256
    audience: str
    issuer: str
    algorithm: Literal["RS256", "ES256", "EdDSA", "HS256"] = "RS256"
    leeway_s: int = 30

    def __post_init__(self) -> None:
        is_pem = self.key.startswith("-----BEGIN PUBLIC KEY-----")
        if self.algorithm != "HS256" and not is_pem:
            raise ValueError(f"the key for {self.algorithm} must be a public key in PEM format")
        if self.algorithm == "HS256" and (is_pem or len(self.key.encode()) < 32):
            raise ValueError("the key for HS256 must be a secret of 32 bytes or more")


class JwtAuth(Plugin[JwtAuthConfig]):
    """Refuse requests without a valid JWT. Send its subject to the upstream."""

    def on_request(self, request: Request) -> Reply | None:
        config = self.config
        # Joined, because of two tokens, the upstream could read the other one.
        scheme, _, token = ",".join(request.headers.getall("authorization", [])).partition(" ")
        if scheme.lower() != "bearer":
            return Reply(401, json={"error": "no token"}, headers={"www-authenticate": "Bearer"})
        try:
            claims = jwt.decode(
                token.encode("utf-8", "surrogateescape"),  # a header can contain any bytes
                config.key,
                algorithms=[config.algorithm],
                audience=config.audience,
                issuer=config.issuer,
                leeway=config.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            logger.info("token refused: %s", error)  # log the reason, but do not send it to the client, which can be an attacker
            return Reply(401, json={"error": "invalid token"}, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        request.headers.update({"x_subject": "", "x-subject": str(claims["sub"])})  # replaces what the client sent, in both spellings
        return None
