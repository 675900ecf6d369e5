# SPDX-License-Identifier: Apache-2.0
"""The no-op as a plugin of the article of 2021."""

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.base import Base


class BaseNoop(Base):
    """Do nothing."""

    def filter(self, request: Request, response: Response) -> None:
        """Let the request pass."""
        self.rewrite()
