# SPDX-License-Identifier: Apache-2.0
"""Reply to the client, as a plugin of release 0.2."""

from typing import Any

from apisix.runner.plugin.core import PluginBase


class CoreStop(PluginBase):
    """Refuse every request."""

    def name(self) -> str:
        """Return the name that routes use."""
        return "core-stop"

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        """End the chain."""
        response.set_status_code(403)
        response.set_header("content-type", "text/plain")
        response.set_header("x-bench", "stop")
        response.set_body("refused by the bench")
