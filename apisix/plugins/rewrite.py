# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# ruff: noqa: UP008 - the documented sample, kept word for word: it shows that plugins written like this go on working
"""Add a header and an argument to the request. A sample: see the documentation of `Base`."""

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base


class Rewrite(Base):
    """Add a header and an argument to the request, and let it go on to the upstream."""

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
