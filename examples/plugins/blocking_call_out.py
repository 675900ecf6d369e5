# SPDX-License-Identifier: Apache-2.0
"""
Ask another service with a library that blocks (`pip install requests`), and do nothing special about it.

When to use it: the library that you have is not async: requests, most database drivers, a vendor's SDK. A plugin that blocks
holds up its worker, so the runner watches: after one call of 0.1 s or three of 0.01 s within a minute it logs one warning, and runs
this plugin's calls in threads from then on. `blocking = True` on the class spares you the warning and these first calls. For
many calls a second a coroutine with a pool (call_out.py) costs less.
"""

import logging
from dataclasses import dataclass

import requests

from apisix import Plugin, Request

logger = logging.getLogger(__name__)


@dataclass
class BlockingCallOutConfig:
    """Where to ask, and how long to wait for the answer in seconds."""

    url: str
    timeout_s: float = 2.0  # requests itself waits for ever


class BlockingCallOut(Plugin[BlockingCallOutConfig]):
    """Tell the upstream from which country a request comes, as another service says."""

    def on_request(self, request: Request) -> None:
        request.headers.discard("x-country")  # the client's own word does not count
        try:
            # No session of our own: several threads may be in here at once, and a requests.Session is not made for that.
            answer = requests.get(self.config.url, params={"address": request.remote_addr}, timeout=self.config.timeout_s)
            request.headers["x-country"] = answer.json()["country"]
        except (requests.RequestException, KeyError) as error:
            # The request is as good without it. on_error = "pass" would let it go on too, but with the deletion above undone.
            logger.warning("the country of a request is unknown: %s", error)
