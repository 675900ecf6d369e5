# SPDX-License-Identifier: Apache-2.0
"""Request the request's body, as a plugin of release 0.2."""

from typing import Any

from apisix.runner.plugin.core import PluginBase


class CoreReadBody(PluginBase):
    """Read the body."""

    def name(self) -> str:
        """Return the name that routes use."""
        return "core-read-body"

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        """Read the whole body."""
        request.get_body()
