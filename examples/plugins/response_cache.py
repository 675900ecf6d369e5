# SPDX-License-Identifier: Apache-2.0
"""
Cache responses for all workers, for as long as their Cache-Control: max-age allows.

When to use it: for a slow upstream with public pages. List it twice in a route: last under ext-plugin-post-req, where it
looks up responses after the gateway's own plugins have run, and last under ext-plugin-post-resp, where it stores them.
The metadata of the request carries the cache key from one phase to the other. All workers of a machine share the cache, and
with `state.url` all machines. If the store is full, it evicts the oldest responses. etag-cache also replies with 304.

Task: Responses
Keywords: cache, cache-control, max-age, shared cache, Redis, store, request metadata
"""

import base64
import hashlib
import json
import re
import time
from typing import Any

from apisix import Plugin, Reply, Request, Response

MAX_BODY_BYTES = 64 * 1024
# The variables that are the cache key. `host` and `request_uri` are as the client sent them.
_KEY = ("route_id", "consumer_name", "scheme", "host", "request_uri", "upstream_uri", "args")
# Responses to requests with one of these are not shared: credentials, parts, and bodies, which the cache key does not contain.
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token", "apikey")
_PERSONAL = (*_CREDENTIALS, "range", "content-length", "transfer-encoding")
_FORBIDDEN = {"set-cookie", "vary", "age"}


class ResponseCache(Plugin):
    """Cache responses for all workers."""

    on_error = "pass"  # without the cache, the upstream answers

    async def on_request(self, request: Request) -> Reply | None:
        if request.method != "GET" or any(name.lower().replace("_", "-") in _PERSONAL for name in request.headers):
            return None
        variables = [await request.avar(name) for name in _KEY]
        key = hashlib.sha256(json.dumps(variables).encode()).hexdigest()
        # fallback: if the store is not available, the request continues to the upstream.
        found: dict[str, Any] | None = await self.store.aget(key, fallback=None)
        if found is None:
            (await request.ametadata())["response_cache"] = key
            return None
        age_s = max(0, int(time.time() - found["stored_at_s"]))
        return Reply(200, base64.b64decode(found["body"]), [*map(tuple, found["headers"]), ("age", str(age_s))])

    async def on_response(self, response: Response) -> None:
        key = (await response.ametadata()).get("response_cache")
        control = ",".join(response.headers.getall("cache-control", [])).lower()
        lifetimes = (re.search(rf"(?:^|[\s,]){name}=([0-9]{{1,8}})\s*(?:,|$)", control) for name in ("s-maxage", "max-age"))
        allowed = next(filter(None, lifetimes), None)
        is_forbidden = re.search("no-store|no-cache|private", control) or _FORBIDDEN & {name.lower() for name in response.headers}
        if key is None or response.status != 200 or allowed is None or not int(allowed[1]) or is_forbidden:
            return
        body = await response.aread(decode=False)
        headers = [list(pair) for pair in response.headers.items()]  # a Reply drops those that belong to the connection
        if 0 < len(body) <= MAX_BODY_BYTES and all(value.isascii() for _, value in headers):
            entry = {"stored_at_s": time.time(), "headers": headers, "body": base64.b64encode(body).decode()}
            await self.store.aset(key, entry, float(allowed[1]), fallback=False)
