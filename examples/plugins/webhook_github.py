# SPDX-License-Identifier: Apache-2.0
"""
Accept webhooks of GitHub only, by their HMAC signature.

When to use it: if GitHub, or a service that signs in the same way, calls your API, and you do not want to check
signatures in every upstream. Each delivery has an id, so that the upstream can ignore one that arrives twice. Replays
are not detected here, because GitHub does not sign a time.

Task: Authentication
Keywords: webhook, HMAC, X-Hub-Signature-256, GitHub, Gitea, signature, compare_digest, constant time
"""

import hmac
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request

Secret = Annotated[str, msgspec.Meta(min_length=16, extra_json_schema={"writeOnly": True})]  # writeOnly: hidden in records


class WebhookGithubConfig(msgspec.Struct, frozen=True):
    """The secrets of the webhook. With two of them, the old one is accepted until all senders have the new one."""

    secrets: Annotated[tuple[Secret, ...], msgspec.Meta(min_length=1, max_length=4)]
    header: str = "x-hub-signature-256"
    max_bytes: int = 2**20


class WebhookGithub(Plugin[WebhookGithubConfig]):
    """Refuse requests whose body is not signed with one of the secrets."""

    def on_request(self, request: Request) -> Reply | None:
        signatures = request.headers.getall(self.config.header, [])
        if len(signatures) != 1 or not signatures[0].startswith("sha256="):
            return Reply(401, json={"error": "no signature"})
        body = request.read()  # the bytes as they were signed; JSON that was parsed and written again has another signature
        if len(body) > self.config.max_bytes:
            return Reply(413, json={"error": "the body is too long"})
        given = signatures[0].removeprefix("sha256=").encode("utf-8", "surrogateescape")
        expected = [hmac.digest(secret.encode(), body, "sha256").hex().encode() for secret in self.config.secrets]
        # compare_digest, and sum instead of any, so that the time does not show how much of a signature was correct.
        if not sum(hmac.compare_digest(given, digest) for digest in expected):
            return Reply(401, json={"error": "invalid signature"})
        return None
