# SPDX-License-Identifier: Apache-2.0
"""plugins/basic_auth.py."""

import base64

import pytest

from apisix.testing import Client

HASH = (
    "000102030405060708090a0b0c0d0e0f:"
    "894ba9355ae56f5febd7db0854dbfd279aac10ab3bc075faff4d7a964600046fc8ed19c25ff52a496e14d5d205aff02bcea132a1489ac794698879d3ebde8218"
)
BASIC_AUTH = ("basic-auth", {"ali": HASH})


def credentials(text: str) -> dict[str, str]:
    """Return the header that a browser would send."""
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_right_password(client: Client) -> None:
    """The upstream gets the name of the user, but not the password."""
    result = client.get("/", headers={**credentials("ali:open sesame"), "x-user": "root"}, plugins=[BASIC_AUTH])

    assert result.upstream.headers["x-user"] == "ali"
    assert "authorization" not in result.upstream.headers


def test_right_password_is_hashed_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first request, a correct password needs no hash. Others are still refused."""
    client.get("/", headers=credentials("ali:open sesame"), plugins=[BASIC_AUTH])
    hashed: list[str] = []

    def hash_password(password: str, salt: bytes) -> str:
        hashed.append(password)
        return ""

    module = vars(client.plugin("basic-auth"))["on_request"].__globals__
    monkeypatch.setitem(module, "hash_password", hash_password)
    again = client.get("/", headers=credentials("ali:open sesame"), plugins=[BASIC_AUTH])
    wrong = client.get("/", headers=credentials("ali:open barley"), plugins=[BASIC_AUTH])
    other = client.get("/", headers=credentials("cassim:open sesame"), plugins=[BASIC_AUTH])

    assert not again.stopped
    assert (wrong.reply.status, other.reply.status) == (401, 401)
    assert hashed == ["open barley", "open sesame"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic"},
        {"authorization": "Basic !"},
        {"authorization": "Basic /w=="},
        {"authorization": "Bearer " + credentials("ali:open sesame")["authorization"].partition(" ")[2]},
        credentials("ali"),
        credentials("ali:"),
        credentials("ali:open barley"),
        credentials("cassim:open sesame"),
        credentials("cassim:"),
    ],
)
def test_no_right_password(client: Client, headers: dict[str, str]) -> None:
    """All other requests get a 401 that makes browsers ask for a password."""
    result = client.get("/", headers=headers, plugins=[BASIC_AUTH])

    assert result.reply.status == 401
    assert result.reply.headers["www-authenticate"] == 'Basic realm="restricted", charset="UTF-8"'


def test_two_headers(client: Client) -> None:
    """A request with two headers is refused."""
    headers = [*credentials("ali:open sesame").items(), ("authorization", "Basic eA==")]

    assert client.get("/", headers=headers, plugins=[BASIC_AUTH]).reply.status == 401
