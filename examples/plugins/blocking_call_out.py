# SPDX-License-Identifier: Apache-2.0
"""
Call another service with a blocking library (`pip install requests`).

When to use it: if your library is not async, such as requests, most database drivers, or a vendor's SDK. The runner
detects a plugin that blocks, logs one warning, and runs its calls in threads from then on. Set `blocking = True` on the
class to use threads from the start. For many calls per second, a coroutine with a connection pool (call_out.py) is
faster.

Task: Traffic
Keywords: requests, blocking, threads, geo lookup, enrich a request
"""

import logging
from dataclasses import dataclass

import requests

from apisix import Plugin, Request

logger = logging.getLogger(__name__)


@dataclass
class BlockingCallOutConfig:
    """The URL of the service, and its timeout in seconds."""

    url: str
    timeout_s: float = 2.0  # requests has no timeout by default


class BlockingCallOut(Plugin[BlockingCallOutConfig]):
    """Add a header with the country of the client, which another service returns."""

    def on_request(self, request: Request) -> None:
        # Remove what the client sent. Many upstreams read x_country as x-country.
        request.headers.update({"x_country": "", "x-country": ""})
        try:
            # Do not share a requests.Session: several threads run this code, and it is not thread-safe.
            answer = requests.get(self.config.url, params={"address": request.remote_addr}, timeout=self.config.timeout_s)
            answer.raise_for_status()
            request.headers["x-country"] = answer.json()["country"]
        except (requests.RequestException, KeyError) as error:
            # Continue without the country. on_error = "pass" would also continue, but keep the header of the client.
            logger.warning("the country of a request is unknown: %s", error)
