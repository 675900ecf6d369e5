# SPDX-License-Identifier: Apache-2.0
"""
Accept webhooks whose signature includes a time, as those of Stripe do. Old ones are refused, so they can't be replayed.

When to use it: if Stripe calls your API, or if you design the signatures of webhooks yourself. Within the tolerance, a
webhook can arrive twice: the upstream has to ignore ids of events that it has seen.

Task: Authentication
Keywords: webhook, HMAC, Stripe-Signature, timestamp tolerance, replay attack, signature, whsec
"""

import hmac
import re
import time
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request

Secret = Annotated[str, msgspec.Meta(min_length=16, extra_json_schema={"writeOnly": True})]  # writeOnly: hidden in records


class WebhookStripeConfig(msgspec.Struct, frozen=True):
    """The secret of the webhook, and how far its time may differ from the clock of this machine."""

    secret: Secret
    tolerance_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 300
    max_bytes: int = 2**20


class WebhookStripe(Plugin[WebhookStripeConfig]):
    """Refuse requests that are not signed, or whose signature is too old."""

    def on_request(self, request: Request) -> Reply | None:
        # The header is `t=1492774577,v1=5257a8...,v1=...`. While a secret is replaced, there is a signature with each one.
        fields = [field.partition("=") for field in ",".join(request.headers.getall("stripe-signature", [])).split(",")]
        times = [value for name, _, value in fields if name == "t"]
        given = [value.encode("utf-8", "surrogateescape") for name, _, value in fields if name == "v1"][:5]
        if len(times) != 1 or re.fullmatch("[0-9]{1,12}", times[0]) is None:
            return Reply(401, json={"error": "no signature"})
        body = request.read()  # the bytes as they were signed
        if len(body) > self.config.max_bytes:
            return Reply(413, json={"error": "the body is too long"})
        signed = times[0].encode() + b"." + body
        expected = hmac.digest(self.config.secret.encode(), signed, "sha256").hex().encode()
        if not sum(hmac.compare_digest(signature, expected) for signature in given):
            return Reply(401, json={"error": "invalid signature"})
        if abs(time.time() - int(times[0])) > self.config.tolerance_s:
            return Reply(401, json={"error": "the signature is too old"})
        return None
