# SPDX-License-Identifier: Apache-2.0
"""Plugins for the tests of the test kit, written for all three APIs."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from apisix import Plugin, Reply, Request, Response
from apisix.runner.legacy.base_adapter import BaseRequest, BaseResponse
from apisix.runner.plugin.base import Base
from apisix.runner.plugin.core import PluginBase


@dataclass
class KeyAuthConfig:
    """The keys with which a request may continue."""

    keys: frozenset[str]
    header: str = "x-api-key"


class KeyAuth(Plugin[KeyAuthConfig]):
    """The plugin of the documentation."""

    def on_request(self, request: Request) -> Reply | None:
        if request.headers.get(self.config.header) not in self.config.keys:
            return Reply(401, json={"error": "unknown key"})
        request.headers["x-authenticated"] = "yes"
        return None


class Edit(Plugin):
    """Edit everything that can be edited."""

    def on_request(self, request: Request) -> None:
        request.path = "/new path"
        request.headers["x-new"] = "1"
        del request.headers["x-old"]
        request.args["a"] = "changed"
        request.args.add("a", "again")
        del request.args["b"]
        request.body = b"<" + request.read() + b">"
        request.response_headers["X-Seen"] = "yes"


class Show(Plugin):
    """Reply with the variables that the configuration lists. "body" means the body."""

    def on_request(self, request: Request) -> Reply:
        return Reply(json=[request.text() if name == "body" else request.var(name) for name in self.config])


class ShowAsync(Plugin):
    """Same as `Show`, but in a coroutine."""

    async def on_request(self, request: Request) -> Reply:
        return Reply(json=[await request.atext() if name == "body" else await request.avar(name) for name in self.config])


class ShowBlocking(Show):
    """Same as `Show`, but in a thread."""

    blocking = True

    def on_request(self, request: Request) -> Reply:
        reply = super().on_request(request)
        reply.headers["x-thread"] = threading.current_thread().name
        return reply


class Needs(Plugin):
    """Use a body and a variable that are requested before the hook runs."""

    needs = ("body", "consumer_name")

    async def on_request(self, request: Request) -> Reply:
        return Reply(200, f"{request.text()} {request.var('consumer_name')}")


class Old(Base):
    """A plugin of the legacy API of release 0.1."""

    def __init__(self) -> None:
        super().__init__(self.__class__.__name__)

    def filter(self, request: BaseRequest, response: BaseResponse) -> None:
        headers = request.headers
        headers["x-old"] = self.config["tag"]
        response.headers = headers
        self.rewrite()


class Older(PluginBase):
    """A plugin of the legacy API of release 0.2."""

    def name(self) -> str:
        return "older"

    def config(self, conf: Any) -> Any:
        return conf

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        request.set_header("x-older", conf)


class Fail(Plugin):
    """Raise the exception that the configuration selects, after an edit."""

    kinds: ClassVar = {"exit": SystemExit(3), "value": ValueError("this is wrong")}

    def on_request(self, request: Request) -> None:
        request.headers["x-edited"] = "yes"
        raise self.kinds[self.config]


class FailAsync(Fail):
    """Same as `Fail`, but in a coroutine."""

    async def on_request(self, request: Request) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().on_request(request)


class FailBlocking(Fail):
    """Same as `Fail`, but in a thread."""

    blocking = True


class FailSoftly(Fail):
    """Same as `Fail`, but the call continues."""

    on_error = "pass"


class Wait(Plugin):
    """Wait forever."""

    async def on_request(self, request: Request) -> None:
        await asyncio.Event().wait()


class Hide(Plugin):
    """Replace the body and a header of a response. Fail if the body is not JSON."""

    def on_response(self, response: Response) -> None:
        response.body = response.json()["public"].encode()
        response.headers["X-Hidden"] = "yes"


class HideAsync(Plugin):
    """Same as `Hide`, but in a coroutine."""

    async def on_response(self, response: Response) -> None:
        response.body = (await response.ajson())["public"].encode()
        response.headers["X-Hidden"] = "yes"


class HideOrDegrade(Hide):
    """Same as `Hide`, but the route decides what happens after a failure."""

    on_error = "degrade"


class Deny(Plugin):
    """Replace a response."""

    def on_response(self, response: Response) -> Reply:
        return Reply(403, "not for you", {"X-Why": "secret"})


class Count(Plugin):
    """Count the calls, and record when `setup` and `close` run."""

    events: ClassVar[list[str]] = []

    async def setup(self) -> None:
        self.calls = 0
        self.events.append("setup")

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.events.append("close")

    shared_state = ("calls",)

    def on_request(self, request: Request) -> Reply:
        self.calls += 1
        return Reply(200, str(self.calls))


class NoSetup(Plugin):
    """Fail in `setup`."""

    async def setup(self) -> None:
        raise ConnectionError("no database")

    def on_request(self, request: Request) -> None:
        return None


class NoClose(Plugin):
    """Fail in `close`."""

    async def close(self) -> None:
        raise ConnectionError("no database any more")

    def on_request(self, request: Request) -> None:
        return None
