# SPDX-License-Identifier: Apache-2.0
"""A plugin that counts resources that could leak in its own process."""

import gc
import os
import threading

import greenlet

from apisix import Plugin, Reply, Request


class Census(Plugin):
    """Reply with the counts of the process."""

    blocking = False  # it takes long, and must not move to a thread, which would be counted

    def on_request(self, request: Request) -> Reply:
        """Collect garbage, and count the remaining objects."""
        gc.collect()
        objects = gc.get_objects()
        greenlets = sum(isinstance(candidate, greenlet.greenlet) for candidate in objects)
        return Reply(json={"pid": os.getpid(), "python_threads": threading.active_count(), "greenlets": greenlets, "objects": len(objects)})
