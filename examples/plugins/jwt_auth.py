# SPDX-License-Identifier: Apache-2.0
"""
Let a request through only with a JSON Web Token of the issuer that you trust (`pip install "PyJWT[crypto]"`).

When to use it: a login service signs tokens, and all your upstreams would otherwise each have to check them.
"""

import logging
from typing import Literal

import jwt
import msgspec

from apisix import Plugin, Reply, Request

logger = logging.getLogger(__name__)


class JwtAuthConfig(msgspec.Struct, frozen=True):
    """Who signs how, and for whom. The algorithm stands here because a token's own word for it is the attacker's."""

    key: str  # the public key as PEM, or the shared secret of HS256
    audience: str
    issuer: str
    algorithm: Literal["RS256", "ES256", "EdDSA", "HS256"] = "RS256"
    leeway_s: int = 30

    def __post_init__(self) -> None:
        is_pem = self.key.startswith("-----BEGIN PUBLIC KEY-----")
        if self.algorithm != "HS256" and not is_pem:
            raise ValueError(f"the key of {self.algorithm} is a public key in PEM")
        if self.algorithm == "HS256" and (is_pem or len(self.key.encode()) < 32):
            raise ValueError("the key of HS256 is a secret of 32 bytes or more")


class JwtAuth(Plugin[JwtAuthConfig]):
    """Let a request through only with a valid JWT, and tell the upstream whose it is."""

    def on_request(self, request: Request) -> Reply | None:
        config = self.config
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return Reply(401, json={"error": "no token"}, headers={"www-authenticate": "Bearer"})
        try:
            claims = jwt.decode(
                token.encode("utf-8", "surrogateescape"),  # a header may hold any bytes
                config.key,
                algorithms=[config.algorithm],
                audience=config.audience,
                issuer=config.issuer,
                leeway=config.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            logger.info("token refused: %s", error)  # for you, and not for the client, who may be trying
            return Reply(401, json={"error": "invalid token"}, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        request.headers["x-subject"] = str(claims["sub"])
        return None
