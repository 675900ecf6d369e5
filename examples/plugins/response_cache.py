# SPDX-License-Identifier: Apache-2.0
"""
Answer from memory what the upstream has answered before, for as long as its Cache-Control: max-age allows.

When to use it: a slow upstream with public pages. A route lists it twice: last under ext-plugin-post-req, where it looks up (the
gateway's own plugins, such as key-auth, have run by then), and under ext-plugin-post-resp, where it stores. Each of the two
gets an instance of its own, and a context of its own, so what they share is the module's. Each worker has its own store.
"""

import re
from collections import OrderedDict
from time import monotonic

from apisix import Plugin, Reply, Request, Response

MAX_ENTRIES, MAX_BODY_BYTES = 1000, 64 * 1024  # so it never grows beyond some 64 MiB
# What tells one response from another. Only variables: the response phase has no other way to know the request.
KEY = ("route_id", "consumer_name", "scheme", "host", "request_uri", "upstream_uri", "args")
_PERSONAL = ("http_authorization", "http_cookie", "http_range")  # requests with one of these get answers of their own
_store: OrderedDict[tuple[str | None, ...], tuple[float, float, Reply]] = OrderedDict()  # stored at, good until, the answer


class ResponseCache(Plugin):
    """Answer from memory what the upstream has answered before."""

    needs = (*KEY, *_PERSONAL, "request_method")
    blocking = False  # it never waits, and the store is no thread's but the loop's
    on_error = "pass"  # the upstream answers as well

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
                _store.popitem(last=False)  # whoever was asked for longest ago


def _is_public(exchange: Request | Response) -> bool:
    return exchange.var("request_method") == "GET" and not any(map(exchange.var, _PERSONAL))
