# SPDX-License-Identifier: Apache-2.0
"""Since which release of APISIX the gateway answers an info request. Source: gateway contract, 10."""

from apisix.runner.wire.messages import ReqBody, RespBody, Var

HAS_KEYS = "2.9"
"""The first release that sends a key with each configuration, and the first that answers info requests."""


def since(info: Var | ReqBody | RespBody, *, in_response: bool) -> str:
    """
    Return the first release of APISIX that answers an info request.

    Args:
        info: what is requested.
        in_response: whether it is requested in ext-plugin-post-resp, which exists since 2.14.
    """
    if in_response:
        return "3.0"
    return "2.12" if isinstance(info, ReqBody) else HAS_KEYS


def described(info: Var | ReqBody | RespBody) -> str:
    """Return what an info request is about, as a phrase for a message."""
    if isinstance(info, Var):
        return f"the variable {info.name}"
    return "the request's body" if isinstance(info, ReqBody) else "the response's body"


def unavailable(info: Var | ReqBody | RespBody, *, in_response: bool) -> str:
    """Return the sentence that refuses an info request to a gateway that sent its configuration without a key."""
    needed = since(info, in_response=in_response)
    return (
        f"this gateway can't be asked for {described(info)}: it sent the configuration without a key, "
        f"so it is older than APISIX {HAS_KEYS}, and an info request would end the call. "
        f"It needs APISIX {needed}: upgrade the gateway, or use only what the request itself contains"
    )


def hang_up(info: Var | ReqBody | RespBody, *, in_response: bool) -> str:
    """Return what it may mean that the gateway closed the connection after an info request."""
    text = f"APISIX answers this info request since {since(info, in_response=in_response)}; an older gateway ends the call"
    if in_response:
        return (
            f"{text}, and the client gets the upstream's body unchanged. "
            "On APISIX 2.14 and 2.15 a plugin can't read or hide a response's body: keep such plugins off this gateway, or upgrade it"
        )
    if isinstance(info, ReqBody):
        return f"{text}, as every gateway does if the body does not fit into a frame of 16 MiB"
    return text
