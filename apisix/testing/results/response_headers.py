# SPDX-License-Identifier: Apache-2.0
"""The response headers that nginx treats in a special way. The test kit and the development gateway use these tables."""

from typing import Final

HIDDEN: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server", "x-pad"})
"""The headers of an upstream that are not sent to the client. Source: nginx, proxy_hide_header."""

SINGLE: Final = frozenset(
    {
        "accept-ranges",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "etag",
        "expires",
        "last-modified",
        "location",
        "refresh",
        "server",
        "www-authenticate",
    }
)
"""The headers of which only one value is stored, the last one. Source: gateway contract, 9 (observed)."""
