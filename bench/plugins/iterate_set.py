# SPDX-License-Identifier: Apache-2.0
"""Look at all headers, set one: what decoding everything costs."""

from apisix import Plugin, Request


class BenchIterateSet(Plugin):
    """Count the headers."""

    def on_request(self, request: Request) -> None:
        """Iterate over all headers and set one."""
        count = 0
        for _name, _value in request.headers.items():
            count += 1
        request.headers["x-bench"] = str(count)
