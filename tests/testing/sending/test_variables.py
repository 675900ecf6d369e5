# SPDX-License-Identifier: Apache-2.0
"""Compare the variables of a request with the development gateway."""

import pytest
from multidict import CIMultiDict

from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.variables import look_up
from apisix.runner.wire.messages import Var
from apisix.testing.sending.messages import make_request
from apisix.testing.sending.variables import VARIABLES

OTHERS = ["arg_x", "arg_flag", "arg_no", "http_x_a", "http_no", "cookie_a", "cookie_no", "nothing", "http_", "arg"]


@pytest.mark.parametrize("name", [*VARIABLES, *OTHERS])
@pytest.mark.parametrize("target", ["/a%20b?x=1&x=2&flag", "/"])
def test_variable(name: str, target: str) -> None:
    """Variables have the same values as in the development gateway."""
    headers = [("host", "Example.com:80"), ("cookie", "a=1; b=2"), ("x-a", "1"), ("x-a", "2"), ("content-type", "text/x")]
    sent = make_request("POST", target, headers=headers, body="abc", remote_addr="0:0::1")
    context = RequestContext(sent.method, sent.target, CIMultiDict(sent.headers), sent.body, "::1", 4711, 9080, request_id=sent.request_id)

    value = look_up(context, name)
    assert sent.info_reply(Var(name)) == (None if value is None else value.encode())


def test_given() -> None:
    """Variables of the test have priority: text, bytes, numbers, and None for a variable that does not exist."""
    sent = make_request("GET", "/", vars={"uri": "/other", "raw": b"\xff", "status": 200, "scheme": None})

    assert [sent.info_reply(Var(name)) for name in ("uri", "raw", "status", "scheme")] == [b"/other", b"\xff", b"200", None]
