# SPDX-License-Identifier: Apache-2.0
# mypy: ignore-errors
# ruff: noqa: UP008 - the code of the documented sample is not changed: it shows that plugins written like this still work
"""The sample plugin `stop` of release 0.1: reply to the client with the headers of the request and a greeting."""

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base


class Stop(Base):
    """Reply to the client with the headers of the request and a greeting."""

    def __init__(self):
        super(Stop, self).__init__(self.__class__.__name__)

    def filter(self, request: Request, response: Response):
        """Stop the request: the client gets this response, and the upstream gets nothing."""
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers
        response.body = "Hello, Python Runner of APISIX"
        response.status_code = 201
        self.stop()
