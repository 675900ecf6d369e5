# SPDX-License-Identifier: Apache-2.0
"""
Mask fields in JSON responses, at any depth.

Needs APISIX 3.0. On 2.14 and 2.15 a plugin can't read a response's body, and the gateway sends it to the client unredacted.

When to use it: an upstream says more than clients may know, and can't be changed. Stands under ext-plugin-post-resp.

What calls itself JSON and does not parse is not sent: the error ends the call with a 503 of the runner's own. That is
`on_error = "refuse"`, the default, written here because it matters. What no plugin can prevent: while the runner itself is
down, the gateway sends the original body. Keep no secret by this alone.
"""

import json
from dataclasses import dataclass
from typing import Any

from apisix import Plugin, Response


@dataclass
class RedactConfig:
    """The names of the fields, without case, and what stands in their place."""

    fields: frozenset[str]
    mask: str = "***"


class Redact(Plugin[RedactConfig]):
    """Mask fields in JSON responses, at any depth."""

    on_error = "refuse"

    def __init__(self) -> None:
        self._fields = {name.casefold() for name in self.config.fields}

    def on_response(self, response: Response) -> None:
        # read() undoes content-encoding, so compression hides nothing. A body that is empty has nothing to hide.
        if "json" not in response.headers.get("content-type", "").lower() or not response.read():
            return
        response.body = json.dumps(self._masked(response.json()), ensure_ascii=False).encode()
        response.headers.discard("etag")  # it is the original's

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.config.mask if name.casefold() in self._fields else self._masked(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._masked(inner) for inner in value]
        return value
