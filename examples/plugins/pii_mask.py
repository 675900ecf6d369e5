# SPDX-License-Identifier: Apache-2.0
"""
Replace personal data in requests to a language model by placeholders, and restore it in the response.

When to use it: if prompts can contain e-mail addresses, phone numbers or cards, which the provider of the model must not see. The same
text always has the same placeholder, such as [EMAIL_1], so that the model can refer to it. List it under ext-plugin-pre-req or
post-req, and under ext-plugin-post-resp. The originals are in the metadata of the request, on this machine, until the response is sent.
Names and addresses have no pattern and are not found, and the path, the query and the headers are not searched. Streams are refused,
because a placeholder can be split. If the response is not JSON, it keeps its placeholders.

Task: AI gateway
Keywords: PII masking, anonymize, pseudonymize, tokenization, LLM privacy, GDPR, prompt, OpenAI, restore, de-identification, metadata
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, cast

import msgspec

from apisix import Plugin, Reply, Request, Response

Name = Annotated[str, msgspec.Meta(pattern="^[A-Z]{1,20}$")]
_DEFAULTS = {
    "EMAIL": r"(?<![\w.%+'-])[\w.%+'-]+@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}",
    "PHONE": r"\+[1-9](?:[ .()/-]{0,2}[0-9]){6,14}(?![0-9])",
    "CARD": r"(?<![0-9])(?:[0-9][ -]?){12,60}[0-9]",
}


class PiiMaskConfig(msgspec.Struct, frozen=True):
    """The patterns by the names of their placeholders, and the longest body. Other calls wait while a body is searched."""

    patterns: Annotated[dict[Name, str], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: dict(_DEFAULTS))
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)] = 2**19


class PiiMask(Plugin[PiiMaskConfig]):
    """Replace personal data in requests, and restore it in responses."""

    def __init__(self) -> None:
        # If a pattern is not a regular expression, this raises an exception, and the route is refused.
        self._pattern = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in self.config.patterns.items()))

    def on_request(self, request: Request) -> Reply | None:
        placeholders: dict[str, str] = {}

        def masked(text: str) -> str:
            return self._pattern.sub(lambda found: placeholders.setdefault(found[0], f"[{found.lastgroup}_{len(placeholders) + 1}]"), text)

        try:
            if len(request.read()) > self.config.max_bytes:
                raise ValueError("the body is too long")
            body = request.json()
            if not isinstance(body, dict) or cast(dict[str, object], body).get("stream") not in (None, False):
                raise ValueError("not an object, or a stream")
            request.body = json.dumps(_mapped(body, masked)).encode()
            if placeholders:
                request.metadata()["pii_mask"] = {placeholder: text for text, placeholder in placeholders.items()}
        except ValueError:
            return Reply(400, json={"error": {"message": "the body must be a JSON object of limited length, without `stream`"}})
        request.headers["content-type"] = "application/json"
        return None

    def on_response(self, response: Response) -> None:
        originals: dict[str, str] = response.metadata().get("pii_mask", {})
        if originals and "json" in response.headers.get("content-type", "").lower() and response.read():
            pattern = re.compile("|".join(map(re.escape, originals)))
            response.body = json.dumps(_mapped(response.json(), lambda text: pattern.sub(lambda found: originals[found[0]], text))).encode()
            response.headers.discard("etag")  # it belongs to the original body


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {change(name): _mapped(inner, change) for name, inner in cast(dict[str, object], value).items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in cast(list[object], value)]
    text = str(value) if isinstance(value, str | int) else ""  # a card can be a number
    return value if change(text) == text else change(text)
