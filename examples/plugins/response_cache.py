# SPDX-License-Identifier: Apache-2.0
"""
Cache responses in memory, for as long as their Cache-Control: max-age allows.

When to use it: for a slow upstream with public pages. List it twice in a route: last under ext-plugin-post-req, where
it looks up responses after the gateway's own plugins have run, and under ext-plugin-post-resp, where it stores them.
Each phase has its own instance and context, so both use a module-level variable. Each worker has its own cache.

Task: Responses
Keywords: cache, cache-control, max-age, in memory
"""

import re
from collections import OrderedDict
from time import monotonic

from apisix import Plugin, Reply, Request, Response

MAX_ENTRIES, MAX_BODY_BYTES = 1000, 64 * 1024  # so the cache needs about 64 MiB at most
# The cache key. It consists of variables, because the response phase has no request.
KEY = ("route_id", "consumer_name", "scheme", "host", "request_uri", "upstream_uri", "args")
_PERSONAL = ("http_authorization", "http_cookie", "http_range")  # responses to requests with one of these are not shared
_store: OrderedDict[tuple[str | None, ...], tuple[float, float, Reply]] = OrderedDict()  # time of storage, expiry, reply


class ResponseCache(Plugin):
    """Cache responses in memory."""

    needs = (*KEY, *_PERSONAL, "request_method")
    blocking = False  # it never blocks, and the cache is not thread-safe
    on_error = "pass"  # without the cache, the upstream answers

    def on_request(self, request: Request) -> Reply | None:
        key = tuple(map(request.var, KEY))
        stored_at_s, good_until_s, reply = _store.get(key, (0.0, 0.0, None))
        if reply is None or not _is_public(request) or not stored_at_s <= monotonic() < good_until_s:
            return None
        _store.move_to_end(key)
        return Reply(reply.status, reply.body, [*reply.headers.items(), ("age", str(int(monotonic() - stored_at_s)))])

    def on_response(self, response: Response) -> None:
        names = {name.lower() for name in response.headers}
        control = ",".join(response.headers.getall("cache-control", [])).lower()
        allowed = re.search(r"\bs-maxage=(\d{1,8})\b", control) or re.search(r"\bmax-age=(\d{1,8})\b", control)
        if allowed is None or re.search("no-store|no-cache|private", control) or names & {"set-cookie", "vary", "age"}:
            return
        if response.status == 200 and _is_public(response) and 0 < len(response.read(decode=False)) <= MAX_BODY_BYTES:
            key, now_s = tuple(map(response.var, KEY)), monotonic()
            _store.pop(key, None)
            _store[key] = (now_s, now_s + int(allowed[1]), Reply(200, response.read(decode=False), response.headers))
            if len(_store) > MAX_ENTRIES:
                _store.popitem(last=False)  # the least recently used response


def _is_public(message: Request | Response) -> bool:
    return message.var("request_method") == "GET" and not any(map(message.var, _PERSONAL))
