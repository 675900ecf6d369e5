# SPDX-License-Identifier: Apache-2.0
"""
Two plugins, of which the first finds something out, and the second uses it: `request.context` is theirs to share.

When to use it: to keep finding (in a header, a token, a host name) apart from using (for a limit, a log, a rewrite), so that each
can be replaced. The context belongs to one call of one chain: the plugins that stand together under ext-plugin-pre-req. The
chains of ext-plugin-post-req and ext-plugin-post-resp begin with an empty one. What they have to know goes through a request
header, as x-tenant does here, which the response phase gets as `response.var("http_x_tenant")`.
"""

import re

from apisix import Plugin, Reply, Request


class TenantFromHeader(Plugin):
    """Find out whose request this is, and hand it over in the context."""

    def on_request(self, request: Request) -> None:
        name = request.headers.get("x-tenant", "").lower()
        if re.fullmatch(r"[a-z0-9-]{1,63}", name):  # it will be part of a path: no "../"
            request.context["tenant"] = name


class TenantPath(Plugin):
    """Send each tenant's requests to a part of the upstream of its own."""

    def on_request(self, request: Request) -> Reply | None:
        tenant = request.context.get("tenant")
        if tenant is None:
            return Reply(400, json={"error": "say whose request this is, in the header x-tenant"})
        request.path = f"/tenants/{tenant}{request.path}"
        request.headers["x-tenant"] = tenant
        return None
