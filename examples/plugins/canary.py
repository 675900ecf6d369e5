# SPDX-License-Identifier: Apache-2.0
"""
Send a percentage of clients to a new version, and keep each client there with a cookie.

When to use it: for canary releases and A/B tests. The plugin sets the header x-variant, and the gateway's plugin
traffic-split, which runs later, selects the upstream: `vars: [["http_x_variant", "==", "canary"]]`. The cookie is not signed,
so clients can choose their variant.

Task: Traffic
Keywords: canary release, A/B test, traffic split, sticky cookie, gradual rollout, feature flag, blue green
"""

import random
from typing import Annotated

import msgspec

from apisix import Plugin, Request


class CanaryConfig(msgspec.Struct, frozen=True):
    """The percentage of new clients that get the canary. With 0, those that have its cookie leave it again."""

    percentage: Annotated[float, msgspec.Meta(ge=0, le=100)]
    cookie: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,40}$")] = "variant"
    max_age_s: Annotated[int, msgspec.Meta(ge=1)] = 7 * 24 * 3600


class Canary(Plugin[CanaryConfig]):
    """Set the header x-variant to `canary` or `stable`."""

    def on_request(self, request: Request) -> None:
        config = self.config
        variant = request.cookies.get(config.cookie)
        if variant not in ("canary", "stable") or config.percentage in (0, 100):
            known = variant
            variant = "canary" if random.random() * 100 < config.percentage else "stable"  # noqa: S311  # not for security
            if variant != known:
                cookie = f"{config.cookie}={variant}; Path=/; Max-Age={config.max_age_s}; HttpOnly; SameSite=Lax"
                request.response_headers.add("set-cookie", cookie)
        request.headers.update({"x_variant": "", "x-variant": variant})  # replaces what the client sent, in both spellings
