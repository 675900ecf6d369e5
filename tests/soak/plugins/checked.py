# SPDX-License-Identifier: Apache-2.0
"""Plugins whose effects depend only on the call, so that the load can check each reply."""

import asyncio
import hashlib
import os

from apisix import Plugin, Reply, Request, Response

VERSION = 1


class Answer(Plugin):
    """Reply with the received message: a plain hook that never waits."""

    def on_request(self, request: Request) -> Reply:
        """End the chain."""
        told = {"id": request.id, "path": request.path, "nonce": request.headers.get("x-nonce"), "arg": request.args.get("nonce")}
        return Reply(200, json={**told, "route": self.config["route"]}, headers={"x-pid": str(os.getpid()), "x-version": str(VERSION)})


class Digest(Plugin):
    """Read the body, which suspends the greenlet, and send its digest to the upstream."""

    def on_request(self, request: Request) -> None:
        """Set headers and an argument."""
        request.headers["x-digest"] = hashlib.sha256(request.read()).hexdigest()
        request.args["route"] = self.config["route"]
        request.response_headers["x-pid"] = str(os.getpid())
        request.response_headers["x-version"] = str(VERSION)


class Waits(Plugin):
    """Wait for the event loop, and request a variable, in a coroutine."""

    async def on_request(self, request: Request) -> None:
        """Change the path and a header."""
        await asyncio.sleep(0.001)
        request.headers["x-request-id"] = await request.avar("request_id") or ""
        request.path = f"/{self.config['route']}{request.path}"
        request.response_headers["x-pid"] = str(os.getpid())
        request.response_headers["x-version"] = str(VERSION)


class Redact(Plugin):
    """Read and replace the body of a response."""

    def on_response(self, response: Response) -> None:
        """Remove the secret word from the response."""
        response.body = response.read().replace(b"secret", self.config["route"].encode())
        response.headers["x-pid"] = str(os.getpid())
        response.headers["x-version"] = str(VERSION)
