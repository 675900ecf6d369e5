# SPDX-License-Identifier: Apache-2.0
"""Iterate over all headers and set one, to measure the decoding of all headers."""

from apisix import Plugin, Request


class BenchIterateSet(Plugin):
    """Count the headers."""

    def on_request(self, request: Request) -> None:
        """Iterate over all headers and set one."""
        count = 0
        for _name, _value in request.headers.items():
            count += 1
        request.headers["x-bench"] = str(count)
