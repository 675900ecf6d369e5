# SPDX-License-Identifier: Apache-2.0
"""Plugins of the two legacy APIs, written as their documentation describes."""

from typing import Any

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base
from apisix.runner.plugin.core import PluginBase


class Legacy(Base):
    """Add to the header x-tags, as a plugin of 2021."""

    def __init__(self) -> None:
        super().__init__(self.__class__.__name__)

    def filter(self, request: Any, response: Any) -> None:
        headers = request.headers
        headers["x-tags"] = headers.get("X-Tags", "") + ",base"
        response.headers = headers
        self.rewrite()


class LegacyQuit(Base):
    """Raise SystemExit."""

    def __init__(self) -> None:
        super().__init__(self.__class__.__name__)

    def filter(self, request: Any, response: Any) -> None:
        raise SystemExit(3)


class Release02(PluginBase):
    """Add to the header x-tags, as a plugin of release 0.2."""

    def name(self) -> str:
        return "release-02"

    def config(self, conf: Any) -> Any:
        return conf

    def filter(self, conf: Any, request: Request, response: Response) -> Any:
        request.set_header("X-Tags", f"{request.get_header('x-tags')},{conf}")  # type: ignore[attr-defined]  # the older request has it


class Release02Quit(PluginBase):
    """Raise SystemExit."""

    def name(self) -> str:
        return "release-02-quit"

    def config(self, conf: Any) -> Any:
        return conf

    def filter(self, conf: Any, request: Request, response: Response) -> Any:
        raise SystemExit(3)


class LegacyLength(Base):
    """Echo all headers, including a length that is too short, as a plugin of 2021 does."""

    def __init__(self) -> None:
        super().__init__(self.__class__.__name__)

    def filter(self, request: Any, response: Any) -> None:
        headers = request.headers
        headers["content-length"] = "5"
        headers["x-a"] = "1"
        response.headers = headers
        self.rewrite()


class Release02Length(PluginBase):
    """Set a body, and a length that is shorter than that of the client's body, as a plugin of release 0.2 does."""

    def name(self) -> str:
        return "release-02-length"

    def config(self, conf: Any) -> Any:
        return conf

    def filter(self, conf: Any, request: Request, response: Response) -> Any:
        request.set_body("hello")  # type: ignore[attr-defined]  # as above
        request.set_header("Content-Length", "5")  # type: ignore[attr-defined]
        request.set_header("x-a", "1")  # type: ignore[attr-defined]
