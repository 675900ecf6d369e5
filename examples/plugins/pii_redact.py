# SPDX-License-Identifier: Apache-2.0
"""
Mask personal data in responses, by what it looks like (`pip install python-stdnum`).

When to use it: if an upstream shows more than clients may see, in JSON of any structure, HTML or other text. redact masks fields by
their names, which is more reliable if you know them. List it under ext-plugin-post-resp; it needs APISIX 3.0. It masks e-mail
addresses, phone numbers with a "+", and cards and IBANs by their check digits. Text that tags split, headers, images and documents
are not searched. If a response can't be read, because it is too long, not valid in its charset, or only a part (206), it is not
sent. While the runner is not running, the gateway sends the original.

Task: Responses
Keywords: PII, personal data, GDPR, mask, redact, e-mail address, credit card, PAN, Luhn, IBAN, phone number, data loss prevention, DLP
"""

import html
import json
import re
from functools import partial
from typing import Annotated, Any, Final, cast

import msgspec
from stdnum import iban, luhn

from apisix import Plugin, Response

_PATTERNS: Final = {  # remove what you do not need
    "email": re.compile(r"(?<![\w.%+'-])[\w.%+'-]+(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}"),
    "phone": re.compile(r"\+[1-9](?:[ \xa0.()/-]{0,2}[0-9]){6,14}(?![0-9])"),
    "iban": re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ \xa0]?[A-Za-z0-9]{4}){2,7}(?:[ \xa0]?[A-Za-z0-9]{1,4})?"),
    "card": re.compile(r"(?<![0-9])[0-9]{3,19}(?:[ \xa0-][0-9]{3,19}){0,5}(?![0-9])"),
}
_ESCAPE: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{4,7});?|\\u00[2-7][0-9a-fA-F]")


class PiiRedactConfig(msgspec.Struct, frozen=True):
    """The longest body. Other calls wait while a body is searched."""

    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**22)] = 2**19


class PiiRedact(Plugin[PiiRedactConfig]):
    """Mask personal data in responses."""

    def on_response(self, response: Response) -> None:
        if response.status == 206:
            raise ValueError("a client has requested a part of a response with a range, and can split what has to be masked")
        kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
        if not re.match(r"text/|application/(.*[+-])?(json|xml|ndjson|jsonl|javascript)$", kind) or not response.read():
            return
        if len(response.read()) > self.config.max_bytes:
            raise ValueError("the response is too long")
        if kind.endswith(("/json", "+json")):
            response.body = json.dumps(self._masked(response.json())).encode()
        else:
            response.body = self._masked(_ESCAPE.sub(_unescaped, response.text())).encode()
            response.headers["content-type"] = f"{kind}; charset=utf-8"
        response.headers.discard("etag")  # it belongs to the original body

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._masked(name): self._masked(inner) for name, inner in cast(dict[str, object], value).items()}
        if isinstance(value, list):
            return [self._masked(inner) for inner in cast(list[object], value)]
        text = masked = str(value) if isinstance(value, str | int) else ""  # a card can be a number
        for kind, pattern in _PATTERNS.items():
            masked = pattern.sub(partial(_replacement, kind), masked)
        return value if masked == text else masked


def _replacement(kind: str, found: re.Match[str]) -> str:
    """Return the name of the kind, or the text itself if no part of it, which consists of groups, has the check digits of its kind."""
    groups = re.split("[ \xa0-]", found[0])
    codes = ["".join(groups[start:end]) for start in range(len(groups)) for end in range(start + 1, len(groups) + 1)]
    is_card = kind == "card" and any(13 <= len(code) <= 19 and luhn.is_valid(code) for code in codes)
    return f"[{kind}]" if is_card or kind in ("email", "phone") or (kind == "iban" and any(map(iban.is_valid, codes))) else found[0]


def _unescaped(found: re.Match[str]) -> str:
    character = json.loads(f'"{found[0]}"') if found[0].startswith("\\") else html.unescape(found[0])
    return character if re.fullmatch(r"[A-Za-z0-9@%.+_() \xa0-]", character) else found[0]
