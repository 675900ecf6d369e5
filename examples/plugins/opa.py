# SPDX-License-Identifier: Apache-2.0
"""
Let Open Policy Agent decide whether a request is allowed (`pip install httpx`).

When to use it: if the rules are in Rego, and change more often than plugins. List it under ext-plugin-pre-req, after a plugin that
sets x-subject, such as oidc-jwks, and before anything that rewrites the path. A policy that has no result denies. APISIX has the
plugin opa; this one can be changed.

Task: Authorization
Keywords: OPA, Open Policy Agent, Rego, policy, external authorization, RBAC, ABAC, decision
"""

import re
from typing import Annotated, Any
from urllib.parse import unquote

import httpx
import msgspec

from apisix import Plugin, Reply, Request


class OpaConfig(msgspec.Struct, frozen=True):
    """The URL of a rule, such as http://127.0.0.1:8181/v1/data/http/authz/allow, and the headers that the policy gets."""

    url: str
    headers: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ("x-subject",)
    timeout_s: float = 1.0


class _Decision(msgspec.Struct):
    result: bool | dict[str, Any] = False  # missing if the rule is not defined, for example because its name is misspelt


class Opa(Plugin[OpaConfig]):
    """Refuse requests that the policy does not allow. The rule is a boolean, or an object with `allow` and `headers`."""

    async def setup(self) -> None:
        self._client = httpx.AsyncClient(timeout=self.config.timeout_s, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        # The upstream gets the path as the client has sent it, so refuse one that it could read differently, such as /admin/..%2Fpublic.
        raw = (await request.avar("real_request_uri") or "").partition("?")[0]
        if unquote(raw, errors="surrogateescape") != request.path or re.search(r"%2f|%5c|\\", raw, re.IGNORECASE):
            return Reply(400, json={"error": "the path must be in its normal form"})
        if max(len(request.args), len(request.headers)) >= 100:  # the gateway sends no more of them, but the upstream gets all
            return Reply(400, json={"error": "there are too many arguments or headers"})
        document = {
            "method": request.method,
            "path": [_text(part) for part in request.path.strip("/").split("/")],
            "query": {_text(name): [_text(value) for value in request.args.getall(name)] for name in request.args},
            "headers": {name: [_text(value) for value in request.headers.getall(name, [])] for name in self.config.headers},
            "client": request.remote_addr,
        }
        answer = await self._client.post(self.config.url, json={"input": document})
        answer.raise_for_status()  # if OPA fails, the request is refused with a 503
        result = msgspec.json.decode(answer.content, type=_Decision).result
        if not (result if isinstance(result, bool) else result.get("allow") is True):
            return Reply(403, json={"error": "not allowed"})
        if isinstance(result, dict):
            request.headers.update({name: str(value) for name, value in result.get("headers", {}).items()})
        return None


def _text(value: str) -> str:
    """Replace bytes that are not UTF-8, which JSON can't contain. A rule that compares such text does not match it."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
