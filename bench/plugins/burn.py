# SPDX-License-Identifier: Apache-2.0
"""Use processor time, to measure the effect of more workers."""

import time

from apisix import Plugin, Request


class BenchBurn(Plugin):
    """Compute for 200 us."""

    blocking = False

    def on_request(self, request: Request) -> None:
        """Compute for a time, measured as CPU time of the thread."""
        end = time.thread_time_ns() + 200_000
        while time.thread_time_ns() < end:
            pass
