# SPDX-License-Identifier: Apache-2.0
"""Plugins with edits that some releases of the gateway ignore or refuse."""

import asyncio

from apisix import Plugin, Reply, Request, Response


class AddResponseHeaders(Plugin):
    """Add a repeated header and a protected one to the client's response."""

    def on_request(self, request: Request) -> None:
        request.response_headers.add("x-two", "1")
        request.response_headers.add("x-two", "2")
        request.response_headers["x-one"] = "1"


class ReplyTwice(Plugin):
    """Reply with a repeated header, without a status."""

    def on_request(self, request: Request) -> Reply:
        return Reply(body="hello", headers=[("x-two", "1"), ("x-two", "2")])


class FailAndDegrade(Plugin):
    """Fail, and let the route decide."""

    on_error = "degrade"

    def on_request(self, request: Request) -> None:
        raise RuntimeError("this plugin always fails")


class NewBody(Plugin):
    """Set a body without reading the old one."""

    def on_request(self, request: Request) -> None:
        request.body = b"new"


class SetTypes(Plugin):
    """Set a header that was protected before 3.2, and another one."""

    def on_response(self, response: Response) -> None:
        response.headers["content-type"] = "application/json"
        response.headers["x-one"] = "1"


class CountHeaders(Plugin):
    """Reply with the number of headers that the gateway has sent."""

    def on_request(self, request: Request) -> Reply:
        return Reply(200, str(sum(1 for _ in request.headers.items())))


class TakesSevenSeconds(Plugin):
    """Take longer than a gateway before 2.8 waits."""

    async def on_request(self, request: Request) -> Reply:
        await asyncio.sleep(7)
        return Reply(200, "late")
