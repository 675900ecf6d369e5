# SPDX-License-Identifier: Apache-2.0
"""
The bodies of the admin API's answers: plain since 3.0, wrapped in the form of etcd 2 before.

Source: apisix/admin/v3_adapter.lua and apisix/core/etcd.lua of 3.18; apisix/admin/init.lua of 2.15.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from apisix.gateway.http import uris
from apisix.gateway.resources.definitions import InvalidDefinition, Record
from apisix.gateway.resources.kinds import KINDS

Action = Literal["get", "set", "create", "compareAndSwap", "delete"]
MIN_PAGE, MAX_PAGE = 10, 500


class InvalidPage(InvalidDefinition):
    """The size of a page is out of range. The message is the whole body of the answer."""


def key_of(kind: str, id: str) -> str:
    """Return the key of a definition in etcd. The credentials of a consumer are below its key."""
    if kind == "credentials":
        consumer, _, credential = id.partition("/")
        return f"/apisix/consumers/{consumer}/credentials" + (f"/{credential}" if credential else "")
    return f"/apisix/{kind}/{id}" if id else f"/apisix/{kind}"


class Replies:
    """Builds the bodies. `is_v3`: whether they have the form of 3.0 and later."""

    def __init__(self, *, is_v3: bool) -> None:
        self._is_v3 = is_v3

    def written(self, action: Action, record: Record) -> dict[str, Any]:
        """Return the answer to PUT, POST or PATCH."""
        node = {"key": key_of(record.kind, record.id), "value": record.value}
        return node if self._is_v3 else {"action": action, "node": node}

    def read(self, record: Record) -> dict[str, Any]:
        """Return the answer to a GET of one definition."""
        if self._is_v3:
            return _listed(record)
        return {"action": "get", "count": 1, "node": {"key": key_of(record.kind, record.id), "value": _value(record)}}

    def deleted(self, kind: str, id: str) -> dict[str, Any]:
        """Return the answer to DELETE."""
        body = {"deleted": "1", "key": key_of(kind, id)}
        return body if self._is_v3 else {"action": "delete", **body, "node": {}}

    def list(self, kind: str, records: Iterable[Record], args: uris.Args, directory: str = "") -> dict[str, Any]:
        """
        Return the answer to a GET of all definitions of a kind, or of one page.

        Raises: InvalidPage: the size of the page is out of range.
        """
        if not self._is_v3:
            nodes = [_listed(record) for record in records]
            return {"action": "get", "count": len(nodes), "node": {"key": key_of(kind, directory), "dir": True, "nodes": nodes}}
        given = {name: str(values[-1] if values[-1] is not None else "") for name, values in args.items()}
        found = [record for record in records if _is_wanted(record, given)]
        return {"total": len(found), "list": [_listed(record) for record in _page(found, given)]}


def _page(records: list[Record], args: Mapping[str, str]) -> list[Record]:
    try:
        page, size = int(args["page"]), int(args["page_size"])
    except (KeyError, ValueError):
        return records
    if not MIN_PAGE <= size <= MAX_PAGE:
        raise InvalidPage(f"page_size must be between {MIN_PAGE} and {MAX_PAGE}")
    start = (max(page, 1) - 1) * size
    return sorted(records, key=lambda record: record.created)[start : start + size]


def _is_wanted(record: Record, args: Mapping[str, str]) -> bool:
    """Return whether a definition has the `name`, `label`, `uri` and `filter` of a query. Name and URI are regular expressions."""
    value = record.value
    if "name" in args and not _matches(args["name"], [value.get("name", "")]):
        return False
    if "label" in args and args["label"] not in value.get("labels", {}):
        return False
    if "uri" in args and not _matches(args["uri"], [value.get("uri", ""), *value.get("uris", [])]):
        return False
    wanted = uris.parse_args(args.get("filter", ""))
    return all(value.get(name) == values[-1] for name, values in wanted.items() if name in KINDS[record.kind].filters)


def _matches(pattern: str, texts: list[str]) -> bool:
    try:
        return any(re.search(pattern, text) for text in texts if text)
    except re.error:
        return False


def _listed(record: Record) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": key_of(record.kind, record.id), "value": _value(record)}
    return shown | {"createdIndex": record.created, "modifiedIndex": record.modified}


def _value(record: Record) -> dict[str, Any]:
    """Return the value of a definition, without the private keys of a certificate."""
    private = ("key", "keys") if record.kind == "ssls" else ()
    return {name: value for name, value in record.value.items() if name not in private}
