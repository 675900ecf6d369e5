# SPDX-License-Identifier: Apache-2.0
"""
Accept webhooks whose signature includes a time, as those of Stripe do. Each is accepted once, so they can't be replayed.

When to use it: if Stripe calls your API, or if you design the signatures of webhooks yourself. Old signatures are refused,
and the store remembers newer ones, for all workers, and with `state.url` for all machines. If a sender has no response, it
sends the event again with a new signature: the upstream has to ignore ids of events that it has seen.

Task: Authentication
Keywords: webhook, HMAC, Stripe-Signature, timestamp tolerance, replay attack, signature, whsec, store, add
"""

import hashlib
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
    max_bytes: Annotated[int, msgspec.Meta(ge=1)] = 2**20


class WebhookStripe(Plugin[WebhookStripeConfig]):
    """Refuse requests that are not signed, or whose signature is too old, or was used before."""

    async def on_request(self, request: Request) -> Reply | None:
        # The header is `t=1492774577,v1=5257a8...,v1=...`. While a secret is replaced, there is a signature with each one.
        fields = [field.partition("=") for field in ",".join(request.headers.getall("stripe-signature", [])).split(",")]
        times = [value for name, _, value in fields if name == "t"]
        given = [value.encode("utf-8", "surrogateescape") for name, _, value in fields if name == "v1"][:5]
        if len(times) != 1 or re.fullmatch("[0-9]{1,12}", times[0]) is None:
            return Reply(401, json={"error": "no signature"})
        body = await request.aread()  # the bytes as they were signed
        if len(body) > self.config.max_bytes:
            return Reply(413, json={"error": "the body is too long"})
        signed = times[0].encode() + b"." + body
        expected = hmac.digest(self.config.secret.encode(), signed, "sha256").hex().encode()
        if not sum(hmac.compare_digest(signature, expected) for signature in given):
            return Reply(401, json={"error": "invalid signature"})
        if abs(time.time() - int(times[0])) > self.config.tolerance_s:
            return Reply(401, json={"error": "the signature is too old"})
        # A signature is valid for twice the tolerance, because its time can be in the future. If the store is not available, this
        # raises, and the request is refused with a 503. With `fallback=True`, it would pass, and could be replayed.
        if not await self.store.aadd(hashlib.sha256(expected).hexdigest(), 1, 2.0 * self.config.tolerance_s + 1):
            return Reply(409, json={"error": "the signature was used before"})
        return None
