# SPDX-License-Identifier: Apache-2.0
"""Plugins that each do one thing in the response phase."""

import asyncio
import time

from apisix import Plugin, Reply, Response


class Size(Plugin):
    """Write the size of the body to a header."""

    async def on_response(self, response: Response) -> None:
        response.headers["x-body-size"] = str(len(await response.aread()))


class Redact(Plugin):
    """Replace the body."""

    def on_response(self, response: Response) -> None:
        response.body = response.read().replace(b"hello", b"*****")


class Leaky(Plugin):
    """Fail although the plugin should redact a body."""

    def on_response(self, response: Response) -> None:
        raise RuntimeError("the redaction failed")


class LeakyDegrade(Leaky):
    """Fail, and let the route decide."""

    on_error = "degrade"


class LeakyPass(Leaky):
    """Fail, and let the response continue."""

    on_error = "pass"


class ResponseQuit(Plugin):
    """Raise SystemExit."""

    def on_response(self, response: Response) -> None:
        raise SystemExit(3)


class ResponseLinger(Plugin):
    """Take longer than any deadline."""

    async def on_response(self, response: Response) -> None:
        await asyncio.sleep(30)


class ResponseBlock(Plugin):
    """Take longer than any deadline, in a thread."""

    blocking = True

    def on_response(self, response: Response) -> None:
        time.sleep(10)


class ResponseTooLong(Plugin):
    """Replace the body with more bytes than fit into a frame."""

    def on_response(self, response: Response) -> None:
        response.body = b"x" * (1 << 24)


class Replace(Plugin):
    """Answer in place of the upstream."""

    def on_response(self, response: Response) -> Reply:
        return Reply(404)
