# SPDX-License-Identifier: Apache-2.0
"""
Set and remove fields of the JSON object that a client sends.

When to use it: to set fields that clients must not choose (a tenant, a role), or to support old clients.

Task: Bodies
Keywords: JSON body, add field, remove field, request transformation
"""

import json
from dataclasses import dataclass, field
from typing import Any, cast

from apisix import Plugin, Reply, Request


@dataclass
class RequestBodyRewriteConfig:
    """The fields to set, and the fields to remove."""

    set: dict[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


class RequestBodyRewrite(Plugin[RequestBodyRewriteConfig]):
    """Set and remove fields of the JSON object that a client sends."""

    needs = ("body",)  # fetched before the hook runs; without this line, request.read() fetches it

    def on_request(self, request: Request) -> Reply | None:
        if not request.read():
            return None  # for example a GET
        try:
            data = request.json()
            json.dumps(data, allow_nan=False)  # JSON has no NaN, but Python reads it
        except ValueError:  # refuse it, or the client could choose its role with a body that is not valid
            return Reply(400, json={"error": "the body must be JSON"})
        if not isinstance(data, dict):
            return Reply(400, json={"error": "the body must be a JSON object"})
        # In any case: some parsers ignore the case of names, so for them, a "Role" would be a second "role".
        replaced = {name.casefold() for name in (*self.config.set, *self.config.remove)}
        kept = {name: value for name, value in cast(dict[str, Any], data).items() if name.casefold() not in replaced}
        request.body = json.dumps(kept | self.config.set).encode()  # the gateway adapts content-length
        request.headers["content-type"] = "application/json"  # the client could have sent another content-type
        return None
