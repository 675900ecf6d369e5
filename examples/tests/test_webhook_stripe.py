# SPDX-License-Identifier: Apache-2.0
"""plugins/webhook_stripe.py."""

import hashlib
import hmac
import time

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client

KEY = "whsec_a secret of the hook"
PLUGINS = [("webhook-stripe", {"secret": KEY, "max_bytes": 1000})]
BODY = b'{"id": "evt_1"}'


def v1(at: str, body: bytes = BODY, key: str = KEY) -> str:
    """Return one signature."""
    return hmac.new(key.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


def status_of(client: Client, *headers: str, body: bytes = BODY) -> int | None:
    """Return the status of the reply, None if the upstream gets the request."""
    result = client.post("/", body=body, headers=[("stripe-signature", header) for header in headers], plugins=PLUGINS)
    return result.reply.status if result.stopped else None


@pytest.mark.parametrize("age_s", [0, 200, -200])
def test_signed(client: Client, age_s: int) -> None:
    """A signature within the tolerance is accepted, beside those of other schemes and other secrets."""
    at, later = str(int(time.time()) - age_s), str(int(time.time()) - age_s + 1)

    assert status_of(client, f"t={at},v1={v1(at)}") is None
    assert status_of(client, f"t={later},v0=abc,v1={v1(later, key='another')},v1={v1(later)}") is None


def test_replay(client: Client, apisix_registry: Registry) -> None:
    """A signature is accepted once, in all workers, however it is written. One that is refused is not used up."""
    now = str(int(time.time()))
    with Client(registry=apisix_registry, share_store=client) as other:
        headers = f"t={now},v1={v1(now, key='another')}", f"t={now},v1={v1(now)}", f"v1={v1(now)},v1={v1(now)},t={now}"
        statuses = [status_of(each, header) for header in headers for each in (client, other)]
        another_event = status_of(other, f"t={now},v1={v1(now, b'{}')}", body=b"{}")

    assert (statuses, another_event) == ([401, 401, None, 409, 409, 409], None)


def test_replay_until_the_signature_is_too_old(client: Client) -> None:
    """A signature is remembered for as long as it is valid, also if its time is in the future."""
    at = str(int(time.time()) + 295)
    status_of(client, f"t={at},v1={v1(at)}")
    client.advance(595)

    assert status_of(client, f"t={at},v1={v1(at)}") == 409


@pytest.mark.parametrize("age_s", [400, -400])
def test_another_time(client: Client, age_s: int) -> None:
    """A signature that is too old, or of the future, is refused."""
    at = str(int(time.time()) - age_s)

    assert status_of(client, f"t={at},v1={v1(at)}") == 401


def test_not_signed(client: Client) -> None:
    """Any other header is refused, also one whose time was replaced."""
    now, earlier = str(int(time.time())), str(int(time.time()) - 400)
    for header in (
        "",
        f"t={now}",
        f"v1={v1(now)}",
        f"t={now},v1=",
        f"t={now},v1=\udcff",
        f"t={now},v0={v1(now)}",
        f"t={now},v1={v1(earlier)}",
        f"t={now},t={earlier},v1={v1(now)}",
        f"t={now},v1={v1(now, key='another')}",
        f"t={now},v1={v1(now, body=b'')}",
        f"t=,v1={v1('')}",
        f"t=1e9,v1={v1('1e9')}",
        f"t=²,v1={v1('²')}",
        f"t={'9' * 5000},v1={v1('9' * 5000)}",
    ):
        assert status_of(client, header) == 401
    assert status_of(client) == 401


def test_headers_are_joined(client: Client) -> None:
    """A time in a second header is a second time."""
    now = str(int(time.time()))

    assert status_of(client, f"t={now}", f"t=1,v1={v1(now)}") == 401


def test_long_body(client: Client) -> None:
    """A long body is refused."""
    now, body = str(int(time.time())), b"x" * 1001

    assert status_of(client, f"t={now},v1={v1(now, body)}", body=body) == 413
