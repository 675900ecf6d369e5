# SPDX-License-Identifier: Apache-2.0
"""A plugin that hands values over to the other phases of a request, as metadata."""

import os

from apisix import Plugin, Request, Response


class Carries(Plugin):
    """Store what came first, and show it in the response phase."""

    def on_request(self, request: Request) -> None:
        """Store the nonce, and the worker of each request phase."""
        metadata = request.metadata()
        metadata.setdefault("nonce", request.headers["x-nonce"])
        metadata["pids"] = [*metadata.get("pids", ()), os.getpid()]
        metadata["padding"] = "x" * int(request.headers.get("x-padding", "0"))

    async def on_response(self, response: Response) -> None:
        """Show what was stored, and the workers of all phases."""
        metadata = await response.ametadata()
        response.headers["x-carried"] = metadata.get("nonce", "")
        response.headers["x-pids"] = " ".join(map(str, [*metadata.get("pids", ()), os.getpid()]))
