# SPDX-License-Identifier: Apache-2.0
"""Tell the upstream for which tenant a request is."""

from dataclasses import dataclass

from apisix import Plugin, Request


@dataclass
class TenantConfig:
    """The name of the header that the upstream gets."""

    header: str


class Tenant(Plugin[TenantConfig]):
    """Set a header to the first segment of the path."""

    def on_request(self, request: Request) -> None:
        request.headers[self.config.header] = request.path.split("/")[1] or "nobody"
