# SPDX-License-Identifier: Apache-2.0
"""Read a header and set one, as a plugin of release 0.2."""

from typing import Any

from apisix.runner.plugin.core import PluginBase


class CoreReadSet(PluginBase):
    """Copy a header."""

    def name(self) -> str:
        """Return the name that routes use."""
        return "core-read-set"

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        """Read one header and set one."""
        request.set_header("x-bench", request.get_header("user-agent"))
