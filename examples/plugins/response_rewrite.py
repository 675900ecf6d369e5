# SPDX-License-Identifier: Apache-2.0
"""
Change status, headers or body of the upstream's response, without reading it.

When to use it: to remove what an upstream tells about itself, to add security headers, to replace its error pages.
Stands under ext-plugin-post-resp. For headers alone on requests that go on, `request.response_headers` is cheaper.
"""

from dataclasses import dataclass, field

from apisix import Plugin, Response


@dataclass
class ResponseRewriteConfig:
    """What to change. `only_status`: of which responses, all where it is empty."""

    status: int | None = None
    set_headers: dict[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()
    body: str | None = None
    only_status: frozenset[int] = frozenset()


class ResponseRewrite(Plugin[ResponseRewriteConfig]):
    """Change status, headers or body of the upstream's response."""

    def on_response(self, response: Response) -> None:
        config = self.config
        if config.only_status and response.status not in config.only_status:
            return
        for name in config.remove_headers:
            response.headers.discard(name)
        response.headers.update(config.set_headers)
        if config.body:  # an empty body can't be sent: the gateway would take it for no change
            response.body = config.body.encode()  # content-length and content-encoding of the old one go by themselves
        if config.status is not None:
            response.status = config.status
