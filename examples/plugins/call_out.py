# SPDX-License-Identifier: Apache-2.0
"""
Ask another service if a request is allowed, with a connection pool (`pip install httpx`).

When to use it: if another service makes the decision, such as OPA or an account service. Other calls continue while the
plugin waits. If the service does not answer, httpx raises an exception, and the request is refused with a 503. List it under
ext-plugin-pre-req, before anything that rewrites the path.

Task: Authorization
Keywords: external authorization, ext_authz, forward auth, httpx, async
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

import httpx

from apisix import Plugin, Reply, Request


@dataclass
class CallOutConfig:
    """The URL of the service, and its timeout in seconds."""

    url: str
    timeout_s: float = 2.0


class CallOut(Plugin[CallOutConfig]):
    """Refuse requests that another service does not allow."""

    async def setup(self) -> None:
        # Awaited once, before the first call of this route in this worker. In __init__ there is no event loop.
        # trust_env=False: do not send tokens through a proxy that an environment variable names.
        self._client = httpx.AsyncClient(timeout=self.config.timeout_s, limits=httpx.Limits(max_connections=50), trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        # The upstream gets the path as the client has sent it, so refuse one that it could read differently, such as /admin/..%2Fpublic.
        raw = (await request.avar("real_request_uri") or "").partition("?")[0]
        if unquote(raw, errors="surrogateescape") != request.path or re.search(r"%2f|%5c|\\", raw, re.IGNORECASE):
            return Reply(400, json={"error": "the path must be in its normal form"})
        # Paths and headers can contain bytes that are not UTF-8. They are decoded to surrogates, which JSON and httpx do not accept.
        path = quote(request.path.encode("utf-8", "surrogateescape"))
        token = ",".join(request.headers.getall("authorization", [])).encode("utf-8", "surrogateescape")
        data = {"method": request.method, "path": path, "client": request.remote_addr}
        answer = await self._client.post(self.config.url, json=data, headers={b"authorization": token})
        if answer.status_code in (401, 403):
            return Reply(answer.status_code, json={"error": "not allowed"})
        answer.raise_for_status()  # any other status is a failure, and the request is refused
        # Always set, to replace the client's own header. Many upstreams read x_user as x-user.
        request.headers.update({"x_user": "", "x-user": answer.headers.get("x-user", "")})
        return None
