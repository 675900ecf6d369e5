# SPDX-License-Identifier: Apache-2.0
"""Plugins that each do one thing in a request phase."""

import asyncio
import time
from typing import Any

from apisix import Plugin, Reply, Request


class Tag(Plugin[dict[str, Any]]):
    """Append `config["tag"]` to the header x-tags."""

    def on_request(self, request: Request) -> None:
        tags = request.headers.get("x-tags")
        request.headers["x-tags"] = self.config["tag"] if tags is None else f"{tags},{self.config['tag']}"


class Mirror(Plugin):
    """Reply with the attributes of the request."""

    def on_request(self, request: Request) -> Reply:
        return Reply(
            200,
            json={
                "id": request.id,
                "method": request.method,
                "path": request.path.encode("utf-8", "surrogateescape").hex(),
                "args": list(request.args.items()),
                "remote_addr": request.remote_addr,
                "route_key": request.route_key,
            },
        )


class BodyLength(Plugin):
    """Reply with the length of the body and the sum of its bytes."""

    def on_request(self, request: Request) -> Reply:
        body = request.read()
        return Reply(200, f"{len(body)} {sum(body)}")


class ReplaceBody(Plugin):
    """Turn the body around."""

    def on_request(self, request: Request) -> None:
        request.body = request.read()[::-1]


class SetsLength(Plugin):
    """Set a body, and a length that is shorter than that of the client's body."""

    def on_request(self, request: Request) -> None:
        request.body = b"hello"
        request.headers["content-length"] = "5"


class KeepsFew(Plugin):
    """Delete all headers except one."""

    def on_request(self, request: Request) -> None:
        for name in list(request.headers):
            if name != "accept":
                del request.headers[name]


class Unprepared(Reply):
    """A reply whose constructor forgets the one above."""

    def __init__(self) -> None:
        pass


class OddReply(Plugin[str]):
    """Reply with values that are difficult to encode, in either phase. The configuration selects them."""

    def on_request(self, request: Request) -> Reply:
        if self.config == "unprepared":
            return Unprepared()
        reply: Any = Reply(403)
        if self.config == "text":
            reply.body = "text"
        elif self.config == "bytearray":
            reply.body = bytearray(b"bytes")
        elif self.config == "status":
            reply.status = "404"
        else:
            reply.body = {"a": 1}
        return reply  # type: ignore[no-any-return]

    on_response: Any = on_request


class AsyncBody(Plugin):
    """Reply with the body, which is read in a coroutine, and with a variable that is requested twice."""

    async def on_request(self, request: Request) -> Reply:
        body = await request.aread()
        await asyncio.sleep(0)
        return Reply(200, f"{body.decode()} {await request.avar('consumer_name')} {await request.avar('consumer_name')}")


class Needs(Plugin):
    """Reply with the values that `needs` has fetched. They are read with the plain accessors in a coroutine."""

    needs = ("body", "consumer_name")

    async def on_request(self, request: Request) -> Reply:
        return Reply(200, f"{request.read().decode()} {request.var('consumer_name')}")


class PlainInCoroutine(Plugin):
    """Use the plain accessor in a coroutine, which is a mistake."""

    async def on_request(self, request: Request) -> None:
        request.read()


class Sleep(Plugin[dict[str, Any]]):
    """Block for `config["seconds"]`."""

    def on_request(self, request: Request) -> None:
        time.sleep(self.config["seconds"])


class BlockingRead(Plugin):
    """Read the body in a thread."""

    blocking = True

    def on_request(self, request: Request) -> Reply:
        return Reply(200, b"in a thread: " + request.read())


class Linger(Plugin[dict[str, Any]]):
    """Wait for `config["seconds"]` in a coroutine."""

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(self.config["seconds"])


class AskForever(Plugin):
    """Send an info request that a silent gateway never answers."""

    def on_request(self, request: Request) -> None:
        try:
            request.var("never")
        except TimeoutError:
            request.headers["x-swallowed"] = "yes"


class BlockForever(Plugin):
    """Block a thread for longer than any deadline."""

    blocking = True

    def on_request(self, request: Request) -> None:
        time.sleep(10)


class Fail(Plugin):
    """Edit, then raise."""

    def on_request(self, request: Request) -> None:
        request.headers["x-edited"] = "yes"
        raise RuntimeError("this plugin always fails")


class FailSoftly(Fail):
    """Edit, then raise an exception. The class sets `on_error = "pass"`."""

    on_error = "pass"


class AsyncFail(Plugin):
    """Raise in a coroutine."""

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("this plugin always fails")


class Quit(Plugin):
    """Raise SystemExit."""

    def on_request(self, request: Request) -> None:
        raise SystemExit(3)


class AsyncQuit(Plugin):
    """Raise SystemExit in a coroutine."""

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)


class BlockingQuit(Plugin):
    """Raise SystemExit in a thread."""

    blocking = True

    def on_request(self, request: Request) -> None:
        raise SystemExit(3)


class TooLong(Plugin):
    """Reply with more bytes than fit into a frame."""

    def on_request(self, request: Request) -> Reply:
        return Reply(200, b"x" * (1 << 24))


class Number(Plugin):
    """Return a value that is not a reply."""

    def on_request(self, request: Request) -> int:  # type: ignore[override]
        return 42


class Strict(Plugin[dict[str, int]]):
    """Accept numbers only, so that a configuration can be invalid."""

    def on_request(self, request: Request) -> None:
        return None


class RaiseReply(Plugin):
    """Raise the reply instead of returning it."""

    def on_request(self, request: Request) -> None:
        raise Reply(418, "short and stout")


class FailingSetup(Plugin):
    """Raise an error in `setup`."""

    async def setup(self) -> None:
        raise ConnectionError("no database")

    def on_request(self, request: Request) -> None:
        return None


class SlowSetup(Plugin):
    """Set up once for all calls."""

    async def setup(self) -> None:
        await asyncio.sleep(0.01)
        self.made = True

    def on_request(self, request: Request) -> None:
        request.headers["x-made"] = str(self.made)


class RewritePath(Plugin[dict[str, str]]):
    """Set the path."""

    def on_request(self, request: Request) -> None:
        request.path = self.config["path"]


class AskAndFail(Plugin):
    """Send an info request in the background, and fail before the reply has arrived."""

    async def on_request(self, request: Request) -> None:
        task = asyncio.create_task(request.avar("never"))
        await asyncio.sleep(0)
        task.cancel()
        raise RuntimeError("this plugin always fails")
