# SPDX-License-Identifier: Apache-2.0
"""plugins/jwt_auth.py."""

import base64
import hmac
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apisix.testing import ChainRefused, Client

PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_KEY = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CONFIG = {"key": PUBLIC_KEY, "algorithm": "ES256", "audience": "api", "issuer": "https://login.example.com"}
CLAIMS = {"sub": "ali", "aud": "api", "iss": "https://login.example.com"}


def token(key: Any = PRIVATE_KEY, algorithm: str = "ES256", **claims: object) -> str:
    """Return a signed token. Claims that are None are omitted."""
    given = {"exp": time.time() + 60, **CLAIMS, **claims}
    return jwt.encode({name: value for name, value in given.items() if value is not None}, key, algorithm)


def confused_token() -> str:
    """Return a token that is signed with HMAC and the public key as secret. A check that uses the token's own algorithm would accept it."""
    header = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"HS256"}').rstrip(b"=").decode()
    signed = f"{header}.{token().split('.')[1]}"
    signature = base64.urlsafe_b64encode(hmac.digest(PUBLIC_KEY.encode(), signed.encode(), "sha256"))
    return f"{signed}.{signature.rstrip(b'=').decode()}"


def test_valid_token(client: Client) -> None:
    """The upstream gets the subject of the token, and not the header that the client sent."""
    result = client.get("/", headers={"authorization": f"Bearer {token()}", "x-subject": "root"}, plugins=[("jwt-auth", CONFIG)])

    assert result.upstream.headers["x-subject"] == "ali"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="no token"),
        pytest.param("\udcff", id="no text"),
        pytest.param(token(exp=time.time() - 60), id="expired"),
        pytest.param(token(exp=None), id="valid for ever"),
        pytest.param(token(aud="another"), id="for somebody else"),
        pytest.param(token(iss="https://evil.example.com"), id="of somebody else"),
        pytest.param(token(sub=None), id="nobody's"),
        pytest.param(token(key=ec.generate_private_key(ec.SECP256R1())), id="signed with another key"),
        pytest.param(token(key=None, algorithm="none"), id="not signed"),
        pytest.param(confused_token(), id="signed with the public key as a secret"),
    ],
)
def test_bad_token(client: Client, bad: str) -> None:
    """Any other token is refused, and the reply does not contain the reason."""
    result = client.get("/", headers={"authorization": f"Bearer {bad}"}, plugins=[("jwt-auth", CONFIG)])

    assert (result.reply.status, result.reply.json()) == (401, {"error": "invalid token"})


def test_no_token(client: Client) -> None:
    """A request without a token gets a 401 that asks for one."""
    result = client.get("/", plugins=[("jwt-auth", CONFIG)])

    assert (result.reply.status, result.reply.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"algorithm": "none"}, "algorithm"),
        ({"algorithm": "HS256"}, "of 32 bytes or more"),
        ({"algorithm": "HS256", "key": "secret"}, "of 32 bytes or more"),
        ({"key": "x" * 32}, "public key in PEM"),
    ],
)
def test_bad_configuration(client: Client, change: dict[str, str], reason: str) -> None:
    """A route whose key does not match its algorithm is refused."""
    with pytest.raises(ChainRefused, match=reason):
        client.get("/", plugins=[("jwt-auth", CONFIG | change)])


def test_two_tokens(client: Client) -> None:
    """A request with two tokens is refused, because the upstream could read the other one."""
    headers = [("authorization", f"Bearer {token()}"), ("authorization", "Bearer x")]

    assert client.get("/", headers=headers, plugins=[("jwt-auth", CONFIG)]).reply.status == 401
