# SPDX-License-Identifier: Apache-2.0
"""The phases in which the gateway calls a runner."""

from enum import StrEnum


class Phase(StrEnum):
    """
    When a call happens, by the name of the gateway's plugin that makes it.

    Source: gateway contract, 3 (the third part of a configuration's key).
    """

    PRE_REQ = "ext-plugin-pre-req"
    """Before the gateway's own plugins."""
    POST_REQ = "ext-plugin-post-req"
    """After the gateway's own plugins, before the request goes to the upstream."""
    POST_RESP = "ext-plugin-post-resp"
    """When the upstream has answered."""
