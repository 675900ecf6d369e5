# SPDX-License-Identifier: Apache-2.0
"""A plugin that blocks the event loop of its worker until it is told to continue."""

import os
from pathlib import Path

from apisix import Plugin, Request


class Halts(Plugin):
    """Create the file `began` in a directory, and wait until something reads from the pipe `end`."""

    blocking = False

    def on_request(self, request: Request) -> None:
        """Block."""
        directory = Path(request.headers["x-directory"])
        (directory / "began").touch()
        os.close(os.open(directory / "end", os.O_WRONLY))
