# SPDX-License-Identifier: Apache-2.0
"""
Change the status, the headers or the body of a response, without reading it.

When to use it: to remove headers that describe the upstream, to add security headers, or to replace error pages. List
it under ext-plugin-post-resp. To set only headers, `request.response_headers` in a request phase is cheaper.

Task: Responses
Keywords: response headers, security headers, error page, status code
"""

from dataclasses import dataclass, field

from apisix import Plugin, Response


@dataclass
class ResponseRewriteConfig:
    """The changes. If `only_status` is not empty, only responses with one of these statuses are changed."""

    status: int | None = None
    set_headers: dict[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()
    body: str | None = None
    only_status: frozenset[int] = frozenset()


class ResponseRewrite(Plugin[ResponseRewriteConfig]):
    """Change the status, the headers or the body of a response."""

    def on_response(self, response: Response) -> None:
        config = self.config
        if config.only_status and response.status not in config.only_status:
            return
        for name in config.remove_headers:
            response.headers.discard(name)
        response.headers.update(config.set_headers)
        if config.body:  # a body can't be removed
            response.body = config.body.encode()  # this also deletes content-length and content-encoding
        if config.status is not None:
            response.status = config.status
