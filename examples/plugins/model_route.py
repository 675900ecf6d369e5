# SPDX-License-Identifier: Apache-2.0
"""
Select the language model by a header, and do not let clients name an expensive one.

When to use it: if applications choose a tier, such as `fast` or `best`, and you decide which model that is. The plugin sets
the field `model` of a request in OpenAI's format, and the header x-llm-backend, by which the gateway's plugin traffic-split
selects the upstream: `vars: [["http_x_llm_backend", "==", "local"]]`.

Task: AI gateway
Keywords: LLM gateway, AI gateway, model routing, OpenAI, chat completions, model alias, fallback, tier, header
"""

import json
from typing import Annotated, Any, cast

import msgspec

from apisix import Plugin, Reply, Request


class Target(msgspec.Struct, frozen=True):
    """A model, and the name of the upstream that serves it."""

    model: str
    backend: str


class ModelRouteConfig(msgspec.Struct, frozen=True):
    """The targets by tier, and the tier of requests that do not name one."""

    tiers: Annotated[dict[str, Target], msgspec.Meta(min_length=1)]
    default: str
    header: str = "x-model-tier"

    def __post_init__(self) -> None:
        if self.default not in self.tiers:
            raise ValueError("default must be one of the tiers")


class ModelRoute(Plugin[ModelRouteConfig]):
    """Set the model of a request by its tier."""

    def on_request(self, request: Request) -> Reply | None:
        target = self.config.tiers.get(request.headers.get(self.config.header, self.config.default))
        if target is None:
            return Reply(400, json={"error": {"message": f"{self.config.header} must be one of: {', '.join(self.config.tiers)}"}})
        try:
            body = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return Reply(400, json={"error": {"message": "the body must be a JSON object"}})
        # Without "Model" and "MODEL": some parsers ignore the case of names.
        kept = {name: value for name, value in cast(dict[str, Any], body).items() if name.casefold() != "model"}
        request.body = json.dumps({**kept, "model": target.model}).encode()
        request.headers["content-type"] = "application/json"
        # Replace what the client sent, in all spellings: the gateway reads each of them as the variable http_x_llm_backend.
        request.headers.update({"x_llm_backend": "", "x_llm-backend": "", "x-llm_backend": "", "x-llm-backend": target.backend})
        request.headers.discard(self.config.header)
        return None
