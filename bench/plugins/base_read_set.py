# SPDX-License-Identifier: Apache-2.0
"""Read a header and set one, as a plugin of the article of 2021."""

from typing import Any

from apisix.runner.plugin.base import Base


class BaseReadSet(Base):
    """Copy a header."""

    def filter(self, request: Any, response: Any) -> None:
        """Read one header and set one."""
        headers = request.headers
        headers["x-bench"] = headers["user-agent"]
        response.headers = headers
        self.rewrite()
