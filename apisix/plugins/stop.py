# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# ruff: noqa: UP008 - the documented sample, kept word for word: it shows that plugins written like this go on working
"""Answer the client at once, with the request's headers and a greeting. A sample: see the documentation of `Base`."""

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base


class Stop(Base):
    """Answer the client at once, with the request's headers and a greeting."""

    def __init__(self):
        super(Stop, self).__init__(self.__class__.__name__)

    def filter(self, request: Request, response: Response):
        """Stop the request: the client gets this response, the upstream gets nothing."""
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers
        response.body = "Hello, Python Runner of APISIX"
        response.status_code = 201
        self.stop()
