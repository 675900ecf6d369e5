# SPDX-License-Identifier: Apache-2.0
"""The variables of nginx and APISIX that depend only on the request, and its id. A test sets all others."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apisix.testing.sending.messages import SentRequest

VARIABLES: dict[str, Callable[["SentRequest"], str | None]] = {
    "args": lambda sent: sent.target.partition("?")[2] or None,
    "content_length": lambda sent: _header(sent, "content-length"),
    "content_type": lambda sent: _header(sent, "content-type"),
    "document_uri": lambda sent: sent.path,
    "host": lambda sent: (_header(sent, "host") or "").partition(":")[0].lower(),
    "is_args": lambda sent: "?" if "?" in sent.target else "",
    "query_string": lambda sent: sent.target.partition("?")[2] or None,
    "real_request_uri": lambda sent: sent.target,
    "remote_addr": lambda sent: sent.remote_addr,
    "request_id": lambda sent: sent.request_id,
    "request_method": lambda sent: sent.method,
    "request_uri": lambda sent: sent.path + (f"?{query}" if (query := sent.target.partition("?")[2]) else ""),
    "scheme": lambda _: "http",
    "uri": lambda sent: sent.path,
}


def variable_of(sent: "SentRequest", name: str) -> bytes | None:
    """Return the value that the test has set or, if it has not, the value for this request. None means that there is no such variable."""
    value = sent.variables[name] if name in sent.variables else _derived(sent, name)
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "surrogateescape")


def _derived(sent: "SentRequest", name: str) -> str | None:
    if name in VARIABLES:
        return VARIABLES[name](sent)
    kind, _, rest = name.partition("_")
    return _BY_KIND[kind](sent, rest) if rest and kind in _BY_KIND else None


def _header(sent: "SentRequest", name: str) -> str | None:
    wanted = name.lower().replace("_", "-")
    values = [value for key, value in sent.headers if key.replace("_", "-") == wanted]
    return ("; " if wanted == "cookie" else ", ").join(values) if values else None


def _argument(sent: "SentRequest", name: str) -> str | None:
    # The gateway's value for `?flag` is `true`. Source: the scenario `ask-vars` of tests/golden/behaviour.jsonl.
    return next(("true" if value is None else value for key, value in sent.args if key == name), None)


def _cookie(sent: "SentRequest", name: str) -> str | None:
    for pair in (_header(sent, "cookie") or "").split(";"):
        key, mark, value = pair.strip().partition("=")
        if mark and key == name:
            return value
    return None


_BY_KIND: dict[str, Callable[["SentRequest", str], str | None]] = {"http": _header, "arg": _argument, "cookie": _cookie}
