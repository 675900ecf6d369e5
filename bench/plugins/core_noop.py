# SPDX-License-Identifier: Apache-2.0
"""The no-op as a plugin of release 0.2."""

from typing import Any

from apisix.runner.plugin.core import PluginBase


class CoreNoop(PluginBase):
    """Do nothing."""

    def name(self) -> str:
        """Return the name that routes use."""
        return "core-noop"

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        """Let the request pass."""
