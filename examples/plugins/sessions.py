# SPDX-License-Identifier: Apache-2.0
"""
Keep sessions of browsers in the store. The browser has a random id in a cookie, and the upstream gets the data of the session.

When to use it: if upstreams should not handle cookies. If a response has the header `x-session`, a JSON object, this begins a
session with these data, for example after a login, and `null` ends it. Later requests of the browser have the same header,
which the browser itself can't set. Each session has a new id, so that an id that was known before a login is worthless, and
the id is replaced every `rotate_s`. List it under ext-plugin-pre-req and ext-plugin-post-resp. All workers share the sessions,
and with `state.url` all machines. If the store is full, it evicts the oldest ones: give it enough memory (`state.size`).

Task: Authentication
Keywords: session, cookie, login, logout, session fixation, rotate session id, HttpOnly, SameSite, Redis, store
"""

import hashlib
import json
import secrets
import time
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Request, Response

_HEADER, _COOKIE = "x-session", "__Host-session"  # browsers accept this prefix only with Secure, with Path=/ and without Domain
GRACE_S = 30.0  # how long an id that was replaced is valid, for requests that the browser has sent before


class SessionsConfig(msgspec.Struct, frozen=True):
    """How long a session lasts without requests, and how old an id can be, in seconds."""

    idle_s: Annotated[float, msgspec.Meta(ge=1, le=30 * 86400)] = 1800.0
    rotate_s: Annotated[float, msgspec.Meta(ge=1, le=30 * 86400)] = 300.0


class Sessions(Plugin[SessionsConfig]):
    """Add the data of the session to the request, and store the data of the response."""

    on_error = "refuse"

    async def on_request(self, request: Request) -> None:
        # Do not trust a header that the client sent. Many upstreams read x_session as x-session.
        request.headers.update({_HEADER: "", _HEADER.replace("-", "_"): ""})
        id = _stored(request.cookies.get(_COOKIE, ""))
        # If the store is not available, this raises, and the client gets a 503. With `fallback=None`, nobody would be logged in.
        current: dict[str, Any] | None = await self.store.aget(id)  # an id names a session, so that a session can have two ids
        data = current and await self.store.aget(current["session"])
        if current is not None and data is not None:
            await self.store.aexpire(current["session"], self.config.idle_s)
            request.headers[_HEADER] = json.dumps(data)
            (await request.ametadata())["sessions"] = {"id": id, **current}

    async def on_response(self, response: Response) -> None:
        text = response.headers.get(_HEADER)
        response.headers.discard(_HEADER)
        old: dict[str, Any] | None = (await response.ametadata()).get("sessions")
        if text is not None:
            data = msgspec.json.decode(text, type=dict[str, Any] | None)
            if old is not None:
                await self.store.adelete(old["session"])  # with all its ids
            if data is None:
                response.headers.add("set-cookie", f"{_COOKIE}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax")
            else:
                session = secrets.token_hex(16)
                await self.store.aset(session, data, self.config.idle_s)
                await self._issue(response, session)
        elif old is not None and "replaced" not in old and time.time() - old["since"] > self.config.rotate_s:
            current = {"session": old["session"], "since": old["since"]}
            # Of two responses at the same time, one replaces the id.
            if await self.store.acas(old["id"], current, {**current, "replaced": True}, GRACE_S):
                await self._issue(response, old["session"])

    async def _issue(self, response: Response, session: str) -> None:
        id = secrets.token_urlsafe(32)
        await self.store.aset(_stored(id), {"session": session, "since": time.time()}, self.config.rotate_s + self.config.idle_s)
        response.headers.add("set-cookie", f"{_COOKIE}={id}; Path=/; Secure; HttpOnly; SameSite=Lax")


def _stored(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8", "surrogateescape")).hexdigest()  # whoever reads the store must not learn valid ids
