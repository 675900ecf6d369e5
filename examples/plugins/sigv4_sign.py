# SPDX-License-Identifier: Apache-2.0
"""
Sign requests to the upstream with AWS Signature Version 4, so that clients need no credentials of AWS.

When to use it: in front of S3, MinIO, Lambda URLs, or your own service that checks such signatures. Authenticate clients before
it. List it last under ext-plugin-post-req, on a route that does not rewrite the path, and set the upstream's
`pass_host: rewrite` and `upstream_host` to the host that is signed. For other services than S3, botocore is an alternative.

Task: Authentication
Keywords: request signing, AWS, SigV4, Signature Version 4, S3, MinIO, HMAC, Lambda function URL, x-amz-content-sha256
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

import msgspec

from apisix import Plugin, Reply, Request

Secret = Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]  # writeOnly: hidden in records


class Sigv4SignConfig(msgspec.Struct, frozen=True):
    """The host that the upstream gets, and the credentials. A route can read them from the environment: `$env://AWS_SECRET`."""

    host: str
    region: str
    access_key: Annotated[str, msgspec.Meta(min_length=1)]
    secret_key: Annotated[Secret, msgspec.Meta(min_length=1)]
    security_token: Secret = ""
    service: str = "s3"
    max_bytes: int = 8 * 2**20


class Sigv4Sign(Plugin[Sigv4SignConfig]):
    """Sign requests to the upstream."""

    on_error = "refuse"

    def on_request(self, request: Request) -> Reply | None:
        config, body = self.config, request.read()
        if len(body) > config.max_bytes:
            return Reply(413, json={"error": "the body is too long"})
        # What the client sends must not become part of a request in the gateway's name, such as x-amz-acl or x-amz-copy-source.
        for name in [name for name in request.headers if name.lower() == "authorization" or name.lower().startswith("x-amz-")]:
            request.headers.discard(name)
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {"host": config.host, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": time}
        if config.security_token:
            signed["x-amz-security-token"] = config.security_token
        path = _quoted(request.path, "/")
        canonical = [
            request.method,
            path if config.service == "s3" else quote(path, safe="/~"),  # all other services encode it twice
            "&".join(map("=".join, sorted((_quoted(name), _quoted(value)) for name, value in request.args.items()))),
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            ";".join(signed),
            signed["x-amz-content-sha256"],
        ]
        scope = f"{time[:8]}/{config.region}/{config.service}/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", time, scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()))
        key = f"AWS4{config.secret_key}".encode()
        for part in scope.split("/"):  # the key is valid for one day, region and service
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        request.headers.update({name: value for name, value in signed.items() if name != "host"})
        credential = f"Credential={config.access_key}/{scope}, SignedHeaders={';'.join(signed)}"
        request.headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, Signature={signature}"
        return None


def _quoted(text: str, safe: str = "") -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=safe + "~")
