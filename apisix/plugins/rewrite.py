# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# ruff: noqa: UP008 - the code of the documented sample is not changed: it shows that plugins written like this still work
"""The sample plugin `rewrite` of release 0.1: add a header and an argument to the request."""

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base


class Rewrite(Base):
    """Add a header and an argument to the request. The gateway then sends it to the upstream."""

    def __init__(self):
        super(Rewrite, self).__init__(self.__class__.__name__)

    def filter(self, request: Request, response: Response):
        """Rewrite the request through the response object."""
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers

        args = request.args
        args["a6_runner"] = "Python"
        response.args = args

        response.path = request.path
        self.rewrite()
