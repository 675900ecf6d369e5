# SPDX-License-Identifier: Apache-2.0
"""
`Request` and `Response` of release 0.1, for tests that call `filter` of a `Base` plugin directly.

    plugin, request, response = Guard(), Request(headers={"x-key": "wrong"}), Response()
    plugin.filter(request, response)
    assert (plugin.action, response.status_code) == (1, 401)

They show what the plugin reads and sets. To examine what the client and the upstream get, use `apisix.testing.Client`.
"""

from apisix.runner.legacy.base_adapter import BaseRequest, BaseResponse
from apisix.testing.release_02 import Headers, Pairs, request_of


class Request(BaseRequest):
    """
    A request as `Base.filter` receives it. Everything that is not given is empty, as in a `Request` of release 0.1 without data.

    Args:
        path: the decoded path, without query.
        headers, args: a mapping or pairs.
        src_ip: the client's address.
    """

    def __init__(
        self,
        path: str = "",
        *,
        method: str = "",
        headers: Headers = (),
        args: Pairs = (),
        src_ip: str = "",
        id: int = 0,
        conf_token: int = 0,
    ) -> None:
        super().__init__(request_of(path, method, headers, args, src_ip, id, conf_token))


class Response(BaseResponse):
    """An empty response as `Base.filter` receives it."""

    def __init__(self) -> None:
        super().__init__()
