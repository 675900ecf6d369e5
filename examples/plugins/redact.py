# SPDX-License-Identifier: Apache-2.0
"""
Mask fields in JSON responses, at any depth. Needs APISIX 3.0: on 2.14 and 2.15, the gateway sends the response without
masking.

When to use it: if an upstream returns more than clients are allowed to see, and you can't change it. List it under
ext-plugin-post-resp.

If a response is JSON by its content-type, or has none, but can't be parsed, it is not sent: the client gets a 503. The same
applies to a part of a response (206). This is `on_error = "refuse"`, the default, which is repeated here because it matters.
While the runner is not running, the gateway sends the original body. Do not use this plugin as the only protection of a
secret.

Task: Responses
Keywords: mask, redact, hide fields, JSON, sensitive data
"""

import json
from dataclasses import dataclass
from typing import cast

from apisix import Plugin, Response


@dataclass
class RedactConfig:
    """The names of the fields, in any case, and the value that replaces theirs."""

    fields: frozenset[str]
    mask: str = "***"


class Redact(Plugin[RedactConfig]):
    """Mask fields in JSON responses, at any depth."""

    on_error = "refuse"

    def __init__(self) -> None:
        self._fields = {name.casefold() for name in self.config.fields}

    def on_response(self, response: Response) -> None:
        if response.status == 206:
            raise ValueError("a client has requested a part of a response with a range, which can be a value without its name")
        # read() decompresses the body, so compressed responses are masked too. An empty body needs no masking.
        if "json" not in response.headers.get("content-type", "json").lower() or not response.read():
            return
        response.body = json.dumps(self._masked(response.json())).encode()
        response.headers.discard("etag")  # it belongs to the original body

    def _masked(self, value: object) -> object:
        if isinstance(value, dict):
            fields = cast(dict[str, object], value)
            return {name: self.config.mask if name.casefold() in self._fields else self._masked(inner) for name, inner in fields.items()}
        if isinstance(value, list):
            return [self._masked(inner) for inner in cast(list[object], value)]
        return value
