# SPDX-License-Identifier: Apache-2.0
"""
Run a request with an idempotency key once. A retry with the same key gets the stored response, without a second order or payment.

When to use it: if clients retry POST requests that must not be executed twice, and the upstream does not detect that. List it
last under ext-plugin-post-req, where consumers are known, and under ext-plugin-post-resp. All workers share the keys, and with
`state.url` all machines. Without consumers, a retry must have the same credentials. A 429 or 503 of the upstream is not stored.

Task: Traffic
Keywords: Idempotency-Key, idempotent POST, retry, duplicate request, exactly once, payment, Stripe, store, cas
"""

import base64
import hashlib
import logging
import secrets
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Reply, Request, Response


class IdempotencyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The header, and the variables that identify a client: `scope`, and `credentials` if no consumer is known."""

    header: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9-]+$")] = "idempotency-key"
    required: bool = False
    scope: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("route_id", "consumer_name")
    credentials: tuple[str, ...] = ("http_authorization", "http_cookie", "http_x_api_key", "http_apikey")
    lock_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 120.0  # longer than the timeouts of the upstream
    keep_s: Annotated[float, msgspec.Meta(ge=1, le=30 * 86400)] = 86400.0
    max_body_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**19)] = 2**18


class Idempotency(Plugin[IdempotencyConfig]):
    """Run a request with an idempotency key once."""

    on_error = "refuse"  # with a 503: without the store, a payment could be made twice

    async def on_request(self, request: Request) -> Reply | None:
        config, keys = self.config, request.headers.getall(self.config.header, [])
        if request.method not in ("POST", "PATCH") or not (keys or config.required):
            return None
        if len(keys) != 1 or not 0 < len(keys[0]) < 256 or not all("!" <= each <= "~" for each in keys[0]):
            return Reply(400, json={"error": f"the request must have one header {config.header} of 1 to 255 visible characters"})
        scope = config.scope if await request.avar("consumer_name") else (*config.scope, *config.credentials)
        key = _digest(keys[0], *[await request.avar(name) for name in scope])
        claim = {"fingerprint": _digest(request.method, request.path, request.query, await request.aread()), "owner": secrets.token_hex(16)}
        if await self.store.aadd(key, claim, config.lock_s):  # of two at the same time, one gets True. If the store fails, this raises
            (await request.ametadata())["idempotency"] = {"key": key, "claim": claim}
            return None
        record: dict[str, Any] = await self.store.aget(key) or claim  # it has just expired: a retry helps
        if record["fingerprint"] != claim["fingerprint"]:
            return Reply(422, json={"error": "this key was used for another request"})
        if "status" not in record:
            return Reply(409, json={"error": "a request with this key is in progress"}, headers={"retry-after": "1"})
        return Reply(record["status"], base64.b64decode(record["body"]), [*map(tuple, record["headers"]), ("idempotency-replayed", "true")])

    async def on_response(self, response: Response) -> None:
        if mine := (await response.ametadata()).get("idempotency"):  # otherwise, the request had no key
            record = None if response.status in (429, 503) else {**mine["claim"], **await self._stored(response)}
            # cas: if the lock has expired, the key can belong to a later request. In any case, this client gets its response.
            if not await self.store.acas(mine["key"], mine["claim"], record, self.config.keep_s, fallback=False):
                logging.getLogger(__name__).warning("a response was not stored: the upstream took longer than lock_s, or the store failed")

    async def _stored(self, response: Response) -> dict[str, Any]:
        kept = ("content-type", "content-encoding", "location")  # nothing that belongs to one client or connection
        headers = [[name, value] for name in kept for value in response.headers.getall(name, []) if value.isascii()]
        try:
            status, body = response.status, await response.aread(decode=False)
        except ValueError:  # it is longer than the runner reads
            status, body = 409, bytes(self.config.max_body_bytes + 1)
        if len(body) > self.config.max_body_bytes:  # the request must not run again, even if its response can't be stored
            status, headers, body = 409, [], b"the request was completed, and its response is too long to be repeated\n"
        return {"status": status, "headers": headers, "body": base64.b64encode(body).decode()}


def _digest(*parts: str | bytes | None) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
