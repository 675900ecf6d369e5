# SPDX-License-Identifier: Apache-2.0
"""The most common kind of plugin: read one header and set another."""

from apisix import Plugin, Request


class BenchReadSet(Plugin):
    """Copy a header."""

    def on_request(self, request: Request) -> None:
        """Read one header and set one."""
        request.headers["x-bench"] = request.headers["user-agent"]
