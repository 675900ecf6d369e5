# SPDX-License-Identifier: Apache-2.0
"""The reply to a call that is refused."""

from typing import Final

from apisix.runner.errors import ErrCode
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp
from apisix.runner.wire.messages import ErrResp

AnyReply = HTTPReqCallResp | HTTPRespCallResp | ErrResp

UNAVAILABLE_BODY: Final = b"503 Service Unavailable\n"
UNAVAILABLE_HEADERS: Final = (("content-type", "text/plain; charset=utf-8"),)


def failure_reply(message: CallReq, on_error: str) -> AnyReply:
    """
    Return the reply to a call that is refused.

    After an error frame, the route's `allow_degradation` decides how the gateway continues. In the response phase it would also send the
    body of the upstream, which the failed plugin may have been configured to hide. So the response is replaced, unless `on_error` is
    "degrade". Source: design, 5; gateway contract, 7.
    """
    if isinstance(message, HTTPRespCallReq) and on_error != "degrade":
        return HTTPRespCallResp(message.id, 503, UNAVAILABLE_HEADERS, UNAVAILABLE_BODY)
    return ErrResp(ErrCode.SERVICE_UNAVAILABLE)
