# SPDX-License-Identifier: Apache-2.0
"""
Ask another service whether a request may pass, with one pool of connections (`pip install httpx`).

When to use it: the decision is made elsewhere (OPA, an account service). While it is asked, other calls go on. Where it
does not answer, httpx raises, and the call is refused with a 503: nobody gets in because the guard is asleep.
"""

from dataclasses import dataclass
from urllib.parse import quote

import httpx

from apisix import Plugin, Reply, Request


@dataclass
class CallOutConfig:
    """Where to ask, and how long to wait for the answer in seconds."""

    url: str
    timeout_s: float = 2.0


class CallOut(Plugin[CallOutConfig]):
    """Let a request through only when another service says so."""

    async def setup(self) -> None:
        # Awaited once, by the first call of this route in this worker; in __init__ there would be no event loop yet.
        # trust_env=False: no proxy that happens to stand in the environment gets to see the tokens.
        self._client = httpx.AsyncClient(timeout=self.config.timeout_s, limits=httpx.Limits(max_connections=50), trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        # Paths and headers may hold bytes that are no text, which come as surrogates, and JSON and httpx would choke on them.
        path = quote(request.path.encode("utf-8", "surrogateescape"))
        token = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        question = {"method": request.method, "path": path, "client": request.remote_addr}
        answer = await self._client.post(self.config.url, json=question, headers={b"authorization": token})
        if answer.status_code in (401, 403):
            return Reply(answer.status_code, json={"error": "not allowed"})
        answer.raise_for_status()  # any other status is no answer, so no permission either
        request.headers["x-user"] = answer.headers.get("x-user", "")  # set in any case: the client's own word does not count
        return None
