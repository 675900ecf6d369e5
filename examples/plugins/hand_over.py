# SPDX-License-Identifier: Apache-2.0
"""
Two plugins that share data: the first one stores a value in `request.context`, and the second one uses it.

When to use it: to separate finding a value (in a header, a token, a host name) from using it (for a limit, a log, a
rewrite), so that each can be replaced. The context belongs to one call of one chain: the plugins that are listed
together under ext-plugin-pre-req. Other phases have their own context. To pass a value to them, use a request header,
such as x-tenant here. The response phase reads it with `response.var("http_x_tenant")`.

Task: Traffic
Keywords: tenant, share data between plugins, context, path per tenant
"""

import re

from apisix import Plugin, Reply, Request


class TenantFromHeader(Plugin):
    """Store the name of the tenant in the context."""

    def on_request(self, request: Request) -> None:
        name = request.headers.get("x-tenant", "").lower()
        if re.fullmatch(r"[a-z0-9-]{1,63}", name):  # the name becomes part of a path, so do not allow "../"
            request.context["tenant"] = name


class TenantPath(Plugin):
    """Send the requests of each tenant to a separate part of the upstream."""

    def on_request(self, request: Request) -> Reply | None:
        tenant = request.context.get("tenant")
        if tenant is None:
            return Reply(400, json={"error": "the header x-tenant is missing or not valid"})
        request.path = f"/tenants/{tenant}{request.path}"
        request.headers["x-tenant"] = tenant
        return None
