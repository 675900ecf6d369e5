# SPDX-License-Identifier: Apache-2.0
"""The phases in which the gateway sends calls to a runner."""

from enum import StrEnum


class Phase(StrEnum):
    """
    The phase of a call. Its value is the name of the gateway's plugin that sends the call.

    Source: gateway contract, 3 (the third part of a configuration's key).
    """

    PRE_REQ = "ext-plugin-pre-req"
    """Before the gateway's own plugins."""
    POST_REQ = "ext-plugin-post-req"
    """After the gateway's own plugins, before the request goes to the upstream."""
    POST_RESP = "ext-plugin-post-resp"
    """After the upstream has responded, before the response goes to the client."""
