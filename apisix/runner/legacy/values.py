# SPDX-License-Identifier: Apache-2.0
"""How the legacy APIs show values of a request: received text, and addresses."""

import codecs
from ipaddress import IPv6Address


class ReceivedText(str):
    """
    A body or a variable as text, whose `encode` returns the received bytes.

    The runner decodes received bytes as UTF-8. Release 0.2 decoded them as Latin-1, so its plugins call `.encode("latin-1")` to get the
    bytes. In this class, both `.encode("latin-1")` and `.encode()` return the received bytes. A slice of it, or another str that is made
    from it, is a plain str.

    >>> text = ReceivedText("für")
    >>> text.encode("latin-1").decode("utf-8")
    'für'
    """

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the received bytes if the encoding is UTF-8 or Latin-1, otherwise the result of `str.encode`."""
        if codecs.lookup(encoding).name in ("utf-8", "iso8859-1"):
            return str.encode(self, "utf-8", "surrogateescape")
        return str.encode(self, encoding, errors)


def received_text(text: str) -> str:
    """Return received text as a str whose `encode("latin-1")` returns its bytes. ASCII text needs no special class for this."""
    return text if text.isascii() else ReceivedText(text)


def full_address(address: str) -> str:
    """Return an address as the legacy APIs show it: IPv6 in full."""
    return IPv6Address(address).exploded if ":" in address else address
