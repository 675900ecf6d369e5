# SPDX-License-Identifier: Apache-2.0
"""Burn processor time: shows what further workers bring."""

import time

from apisix import Plugin, Request


class BenchBurn(Plugin):
    """Compute for 200 us."""

    blocking = False

    def on_request(self, request: Request) -> None:
        """Keep the processor busy, by its own clock."""
        end = time.thread_time_ns() + 200_000
        while time.thread_time_ns() < end:
            pass
