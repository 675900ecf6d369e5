# SPDX-License-Identifier: Apache-2.0
"""
Cache responses for all workers, and reply with 304 if the client has the current version (ETag, If-None-Match).

When to use it: for public pages and JSON of a slow upstream, if clients ask for them again and again. List it twice in a
route: last under ext-plugin-post-req, where it looks responses up, and last under ext-plugin-post-resp, where it stores them for as
long as their Cache-Control allows. All workers of a machine share the cache, and with `state.url` all machines. `state.size`
limits it. response-cache is the same without ETags.

Task: Responses
Keywords: cache, ETag, If-None-Match, 304 Not Modified, conditional request, cache-control, shared cache, store
"""

import base64
import hashlib
import json
import re
import time
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Reply, Request, Response

# The cache key. It consists of variables, because the response phase has no request.
_KEY = ("route_id", "consumer_name", "scheme", "host", "request_uri", "upstream_uri", "args")
_PERSONAL = ("http_authorization", "http_cookie", "http_x_api_key", "http_range", "http_content_length", "http_transfer_encoding")
_FORBIDDEN = {"set-cookie", "vary", "age"}


class EtagCacheConfig(msgspec.Struct, frozen=True):
    """The limits for the lifetime and the size of a stored response."""

    max_age_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 3600
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**19)] = 2**16


class EtagCache(Plugin[EtagCacheConfig]):
    """Cache responses for all workers, with their ETags."""

    needs = (*_KEY, *_PERSONAL, "request_method")
    on_error = "pass"  # without the cache, the upstream answers

    async def on_request(self, request: Request) -> Reply | None:
        # fallback: if the store is not available, the request continues to the upstream
        found: dict[str, Any] | None = await self.store.aget(await _key(request), fallback=None) if await _is_public(request) else None
        if found is None:
            return None
        headers = [(name, value) for name, value in found["headers"]]
        headers.append(("age", str(max(0, int(time.time() - found["stored_at_s"])))))
        known = {tag.strip().removeprefix("W/") for text in request.headers.getall("if-none-match", []) for tag in text.split(",")}
        if known & {"*", found["etag"].removeprefix("W/")}:  # both without W/: RFC 9110, 13.1.2
            kept = ("etag", "cache-control", "expires", "content-location", "date", "age")
            return Reply(304, headers=[(name, value) for name, value in headers if name.lower() in kept])
        return Reply(200, base64.b64decode(found["body"]), headers)

    async def on_response(self, response: Response) -> None:
        control = ",".join(response.headers.getall("cache-control", [])).lower()
        allowed = re.search(r"(?<![\w-])s-maxage=(\d{1,8})\b", control) or re.search(r"(?<![\w-])max-age=(\d{1,8})\b", control)
        lifetime_s = min(int(allowed[1]), self.config.max_age_s) if allowed else 0
        is_forbidden = re.search("no-store|no-cache|private", control) or _FORBIDDEN & {name.lower() for name in response.headers}
        if not lifetime_s or is_forbidden or response.status != 200 or not await _is_public(response):
            return
        body = await response.aread(decode=False)
        headers = [list(pair) for pair in response.headers.items()]  # a Reply drops those that belong to the connection
        if not 0 < len(body) <= self.config.max_body_bytes or not all(value.isascii() for _, value in headers):
            return
        if "etag" not in response.headers:
            response.headers["etag"] = f'"{hashlib.sha256(body).hexdigest()[:32]}"'  # the client gets it with the first response
            headers.append(["etag", response.headers["etag"]])
        entry = {"stored_at_s": time.time(), "etag": response.headers["etag"], "headers": headers, "body": base64.b64encode(body).decode()}
        await self.store.aset(await _key(response), entry, lifetime_s, fallback=False)


async def _key(message: Request | Response) -> str:
    return hashlib.sha256(json.dumps([await message.avar(name) for name in _KEY]).encode()).hexdigest()


async def _is_public(message: Request | Response) -> bool:
    return await message.avar("request_method") == "GET" and not any([await message.avar(name) for name in _PERSONAL])
