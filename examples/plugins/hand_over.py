# SPDX-License-Identifier: Apache-2.0
"""
Two plugins that share data in all phases of a request: the first one stores a value in its metadata, and the second one uses it.

When to use it: to separate finding a value (in a header, a token, a host name) from using it (for a limit, a log, a
rewrite), so that each can be replaced. The metadata belongs to the client's request. Plugins see it in all phases, whichever
worker runs them, and neither the client nor the upstream does. If both plugins are in the same phase, `request.context`
is enough, and needs no info request. For data that belongs to more than one request, use `self.store`.

Task: Traffic
Keywords: tenant, share data between plugins and phases, metadata, path per tenant
"""

import re

from apisix import Plugin, Reply, Request, Response


class TenantFromHeader(Plugin):
    """Store the name of the tenant. List it under ext-plugin-pre-req."""

    def on_request(self, request: Request) -> None:
        name = request.headers.get("x-tenant", "").lower()
        if re.fullmatch(r"[a-z0-9-]{1,63}", name):  # the name becomes part of a path, so do not allow "../"
            request.metadata()["tenant"] = name


class TenantPath(Plugin):
    """Send the requests of each tenant to a separate part of the upstream, and name the tenant in the response."""

    def on_request(self, request: Request) -> Reply | None:
        tenant = request.metadata().get("tenant")
        if tenant is None:
            return Reply(400, json={"error": "the header x-tenant is missing or not valid"})
        request.path = f"/tenants/{tenant}{request.path}"
        return None

    def on_response(self, response: Response) -> None:
        response.headers["x-tenant"] = response.metadata().get("tenant", "unknown")
