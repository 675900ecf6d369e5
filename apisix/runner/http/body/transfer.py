# SPDX-License-Identifier: Apache-2.0
"""Which bodies can be transferred between the gateway and the runner. Source: gateway contract, 6."""

from collections.abc import Callable
from typing import Final

from apisix.runner.errors import BodyError, UnsupportedEdit
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES

MAX_BODY_BYTES: Final = MAX_PAYLOAD_BYTES - 27
"""
The length of the longest body that an info reply can contain: its other fields need 24 bytes, and the body is padded to a multiple of 4.

A frame with an assigned body has at least as many other bytes. Source: gateway contract, 6.
"""


def checked_body(owner: str, body: object, is_received_empty: Callable[[], bool]) -> bytes | None:
    """
    Return an assigned body as immutable bytes, or None if it changes nothing because it is empty, and so is the received one.

    Args:
        owner: "request" or "response".
        is_received_empty: returns whether the received body is known to be empty.
    Raises:
        TypeError: the body is not bytes.
        UnsupportedEdit: the body would become empty, or is too long to be sent.
    """
    if type(body) is not bytes:
        if not isinstance(body, bytes | bytearray | memoryview):
            hint = ", append .encode()" if isinstance(body, str) else ""
            raise TypeError(f"{owner}.body must be bytes, got {type(body).__name__}{hint}")
        body = bytes(memoryview(body))  # also of a subclass, whatever it overrides
    if not body:
        if is_received_empty():
            return None
        instead = (
            "answer with a Reply instead" if owner == "response" else 'assign a body without content, such as b"{}", or answer with a Reply'
        )
        raise UnsupportedEdit(f"{owner}.body can't be emptied, because for the gateway an empty body means no change: {instead}")
    if len(body) > MAX_BODY_BYTES:
        raise UnsupportedEdit(
            f"{owner}.body has {len(body)} bytes, which do not fit into a frame: a body can have {MAX_BODY_BYTES} bytes at most"
        )
    return body


def refuse_too_long(owner: str, content_length: str | None) -> None:
    """
    Raise BodyError if a body is too long to be transferred: the info request would make the gateway fail the call.

    Args:
        owner: "request" or "response".
        content_length: the received header, None if there was none.
    Source: gateway contract, 6.
    """
    # Only ASCII digits: str.isdigit accepts others, and nginx has checked the header anyway.
    if content_length and content_length.isascii() and content_length.isdigit() and int(content_length[:20]) > MAX_BODY_BYTES:
        raise BodyError(
            f"the {owner}'s body has {content_length} bytes and can't be read: "
            f"the gateway transfers {MAX_BODY_BYTES} bytes at most (look at content-length first)"
        )


def refuse_withheld(protocol: bytes | None) -> None:
    """
    Raise BodyError if the gateway does not transfer a body although there may be one, so that it is not mistaken for an empty one.

    Args:
        protocol: the variable `server_protocol` of a request without the headers that announce a body.
    Source: gateway contract, 10: 3.9 to 3.16.
    """
    if protocol is not None and not protocol.startswith((b"HTTP/0", b"HTTP/1")):
        raise BodyError(
            f"the request's body can't be read: it was sent over {protocol[:20].decode(errors='replace')} without content-length, and then "
            f"APISIX 3.9 to 3.16 transfers no body, although the upstream gets one. The client must send content-length, 0 for no body"
        )
