# SPDX-License-Identifier: Apache-2.0
"""Reply to the client, as a plugin of the article of 2021."""

from typing import Any

from apisix.runner.plugin.base import Base


class BaseStop(Base):
    """Refuse every request."""

    def filter(self, request: Any, response: Any) -> None:
        """End the chain."""
        response.headers = {"content-type": "text/plain", "x-bench": "stop"}
        response.body = "refused by the bench"
        response.status_code = 403
        self.stop()
