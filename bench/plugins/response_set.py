# SPDX-License-Identifier: Apache-2.0
"""Keep all headers of the response and set one."""

from apisix import Plugin, Response


class BenchResponseSet(Plugin):
    """Mark the response."""

    def on_response(self, response: Response) -> None:
        """Set one header."""
        response.headers["x-bench"] = "1"
