# SPDX-License-Identifier: Apache-2.0
"""
The headers of a request that say where the message ends, or that belong to the client's connection: what plugins may do to them.

The gateway applies header edits before it reads the client's body. It obeys a changed `content-length` there: the rest of the body is
run as a second request of the same client, which no plugin has seen. So the runner never sends a value for any of these headers.
Each plugin API edits `Request.headers`, so `RequestHeaders` (headers.py) is the one place that applies this table: it refuses the edit
at the line that makes it, and filters what is sent, whatever was edited.
"""

from dataclasses import dataclass
from typing import Final

_ONE_CONNECTION: Final = "it belongs to the client's connection to the gateway (RFC 9110, 7.6.1)"


@dataclass(frozen=True, slots=True)
class FramingRule:
    """
    What may be done to one header of a request.

    Attributes:
        can_be_set: whether a new value is sent. If not, setting one raises UnsupportedEdit.
        sends_deletion: whether the gateway is told that the header was deleted. If not, later plugins miss it, and the upstream gets it.
        reason: why it can't be set, or has to stay, as the end of a sentence.
    """

    can_be_set: bool
    sends_deletion: bool
    reason: str


REQUEST_FRAMING: Final[dict[str, FramingRule]] = {
    "content-length": FramingRule(
        False,
        False,
        "the gateway would read only so much of the client's body and run the rest as a second request; it counts the body by itself",
    ),
    "transfer-encoding": FramingRule(False, True, "the gateway decides how it sends the body"),
    "host": FramingRule(True, False, "an HTTP/1.1 request must have one (RFC 9112, 3.2)"),
    "connection": FramingRule(False, True, _ONE_CONNECTION),
    "keep-alive": FramingRule(False, True, _ONE_CONNECTION),
    "proxy-connection": FramingRule(False, True, _ONE_CONNECTION),
    "te": FramingRule(False, True, _ONE_CONNECTION),
    "trailer": FramingRule(False, True, "the gateway sends no trailers"),
    "upgrade": FramingRule(False, True, "only the client can ask for another protocol on its connection"),
    "expect": FramingRule(False, True, "the gateway answers `100 Continue` by itself"),
}
"""By name in lower case. A header that is not in it can be set and deleted. Source: gateway contract, 5.2, 7 and 9."""
