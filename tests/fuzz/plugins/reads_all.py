# SPDX-License-Identifier: Apache-2.0
"""A plugin that reads every field, so that all malformed parts are found."""

from apisix import Plugin, Request, Response
from apisix.runner.errors import BodyError


class ReadsAll(Plugin):
    """Read everything, and change something."""

    def on_request(self, request: Request) -> None:
        """Iterate, look up, send an info request, set."""
        seen = [*request.headers.items(), *request.args.items(), request.path, request.method, request.remote_addr, request.id]
        try:
            size = len(request.read())
        except BodyError:  # the answers are made up, and some of them mean a body that the gateway withholds
            size = 0
        request.headers["x-seen"] = str(len(seen) + size + len(request.var("request_id") or ""))
        request.args["seen"] = request.path[:20].encode("utf-8", "surrogateescape").hex()

    def on_response(self, response: Response) -> None:
        """Iterate, read, set."""
        response.headers["x-seen"] = str(len(list(response.headers.items())) + len(response.read()) + response.status)
