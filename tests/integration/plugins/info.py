# SPDX-License-Identifier: Apache-2.0
"""Plugins that send info requests, each in a different way, and one that counts its calls."""

from typing import Any

from apisix import Plugin, Reply, Request, Response
from apisix.runner.plugin.core import PluginBase


class AskVariable(Plugin):
    """Read a variable."""

    def on_request(self, request: Request) -> None:
        request.var("consumer_name")


class AskInCoroutine(Plugin):
    """Read the body in a coroutine."""

    async def on_request(self, request: Request) -> None:
        await request.aread()


class AskInThread(Plugin):
    """Read the body in a thread."""

    blocking = True

    def on_request(self, request: Request) -> None:
        request.read()


class AskByNeeds(Plugin):
    """Use `needs` to fetch a variable before the hook."""

    needs = ("consumer_name",)

    def on_request(self, request: Request) -> None:
        request.headers["x-consumer"] = request.var("consumer_name") or ""


class AskAsOfRelease02(PluginBase):
    """Read the body as a plugin of release 0.2."""

    def name(self) -> str:
        return "ask-as-of-release-02"

    def config(self, conf: Any) -> Any:
        return conf

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        request.get_body()


class AskOrGoOn(Plugin):
    """Continue without a variable if the gateway does not support info requests."""

    def on_request(self, request: Request) -> Reply:
        try:
            return Reply(200, request.var("consumer_name") or "nobody")
        except RuntimeError:
            return Reply(200, "can't be asked")


class HideBody(Plugin):
    """Replace a response's body that contains a secret."""

    def on_response(self, response: Response) -> None:
        response.body = response.read().replace(b"secret", b"******")


class CountCalls(Plugin):
    """Reply with the number of calls that this instance has handled."""

    def __init__(self) -> None:
        self.calls = 0

    def on_request(self, request: Request) -> Reply:
        self.calls += 1
        return Reply(200, str(self.calls))


class EditArgument(Plugin[dict[str, Any]]):
    """Set the argument n to `config["n"]`."""

    def on_request(self, request: Request) -> None:
        request.args["n"] = self.config["n"]


class ShowPhase(Plugin):
    """Reply with the phase."""

    def on_request(self, request: Request) -> Reply:
        return Reply(200, str(request.phase))
