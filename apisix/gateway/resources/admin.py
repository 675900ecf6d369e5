# SPDX-License-Identifier: Apache-2.0
"""The admin API for routes and upstreams, with APISIX's status codes and error bodies (v3)."""

import hmac
import ipaddress
import json
import secrets
from typing import Any
from urllib.parse import urlsplit

from apisix.gateway.http.answer import Answer, json_answer
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.resources.definitions import InvalidDefinition, Record
from apisix.gateway.resources.store import KINDS, Store

PREFIX = "/apisix/admin"

# The key in the examples of APISIX's documentation. This gateway listens on the loopback interface only.
DEFAULT_KEY = "edd1c9f034335f136f87ad84b625c8f1"

_OTHER_KINDS = frozenset(
    {
        "consumer_groups",
        "plugin_metadata",
        "plugins",
        "ssls",
        "protos",
        "secrets",
        "stream_routes",
        "schema",
    }
)

# Defaults in APISIX's schema. Source: the answers of APISIX 3.x.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "routes": {"priority": 0, "status": 1},
    "services": {},
    "plugin_configs": {},
    "consumers": {},
    "global_rules": {},
    "upstreams": {"type": "roundrobin", "hash_on": "vars", "pass_host": "pass", "scheme": "http"},
}


class AdminApi:
    """
    Handles requests under `/apisix/admin`, which read and change the store.

    A page of another site must not reach it from the author's browser. So a request with a foreign Origin is refused, and the documented
    key is accepted only with a Host that is a loopback name: a page that uses DNS rebinding sends its own name.

    Args: key: the key that requests must have. If None, it is the documented one, or a random one for another Host.
    """

    def __init__(self, store: Store, key: str | None = None) -> None:
        self._store = store
        self._key = key
        self._random_key = secrets.token_hex(16)
        self._methods = {"GET": self._get, "PUT": self._put, "POST": self._post, "PATCH": self._patch, "DELETE": self._delete}

    def answer(self, context: RequestContext) -> Answer:
        """Answer one request."""
        origin = context.headers.get("origin")
        if origin is not None and not is_loopback_name(urlsplit(origin).hostname or ""):
            return json_answer(403, {"error_msg": f"requests from pages of {origin} are not allowed"})
        given = context.headers.get("x-api-key")
        key = self._key or (DEFAULT_KEY if is_loopback_name(context.host) else self._random_key)
        if given is None or not hmac.compare_digest(given.encode(errors="replace"), key.encode()):
            description = "missing apikey" if given is None else "wrong apikey"
            return json_answer(401, {"description": description, "error_msg": "failed to check token"})
        kind, _, id = context.uri.removeprefix(PREFIX).strip("/").partition("/")
        if kind in _OTHER_KINDS:
            return json_answer(501, {"error_msg": f"{kind} are not supported by the development gateway, only {', '.join(KINDS)}"})
        if kind not in KINDS:
            return json_answer(404, {"error_msg": f"Unsupported resource type: {kind}"})
        if context.method not in self._methods:
            return json_answer(404, {"error_msg": "not found"})
        body: object = None
        if context.body:
            try:
                body = json.loads(context.body)
            except (ValueError, RecursionError) as error:
                return json_answer(400, {"error_msg": f"invalid request body: {error}", "req_body": context.body.decode(errors="replace")})
        try:
            return self._methods[context.method](kind, id, body)
        except InvalidDefinition as error:
            return json_answer(400, {"error_msg": str(error)})
        except KeyError:
            return json_answer(404, {"message": "Key not found"})

    def _get(self, kind: str, id: str, body: object) -> Answer:
        records = self._store.records(kind)
        if not id:
            return json_answer(200, {"total": len(records), "list": [_shown(record, indexes=True) for record in records.values()]})
        return json_answer(200, _shown(records[id], indexes=True))

    def _put(self, kind: str, id: str, body: object) -> Answer:
        value = _definition(body)
        id = id or str(value.get("username" if kind == "consumers" else "id", ""))
        if not id:
            raise InvalidDefinition(f"missing {kind.removesuffix('s')} id")
        if "id" in value and str(value["id"]) != id:
            raise InvalidDefinition(f"wrong {kind.removesuffix('s')} id")
        record, created = self._store.put(kind, id, _with_defaults(kind, value))
        return json_answer(201 if created else 200, _shown(record))

    def _post(self, kind: str, id: str, body: object) -> Answer:
        if id:
            raise InvalidDefinition(f"wrong {kind.removesuffix('s')} id, do not need it")
        record, _ = self._store.put(kind, self._store.next_id(), _with_defaults(kind, _definition(body)))
        return json_answer(201, _shown(record))

    def _patch(self, kind: str, id: str, body: object) -> Answer:
        if not id:
            raise InvalidDefinition(f"missing {kind.removesuffix('s')} id")
        if body is None:
            raise InvalidDefinition("missing new configuration")
        id, _, sub_path = id.partition("/")
        value: object = body
        for key in reversed([key for key in sub_path.split("/") if key]):
            value = {key: value}
        record, _ = self._store.put(kind, id, _merged(self._store.records(kind)[id].value, _definition(value)))
        return json_answer(200, _shown(record))

    def _delete(self, kind: str, id: str, body: object) -> Answer:
        if not id:
            raise InvalidDefinition(f"missing {kind.removesuffix('s')} id")
        self._store.delete(kind, id)
        return json_answer(200, {"deleted": "1", "key": f"/apisix/{kind}/{id}"})


def is_loopback_name(host: str) -> bool:
    """Return whether a host name, without port, always refers to this machine."""
    name = host.lower().strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _definition(body: object) -> dict[str, Any]:
    if body is None:
        raise InvalidDefinition("missing configurations")
    if not isinstance(body, dict):
        raise InvalidDefinition("invalid configuration: wrong type: expected object")
    return body


def _with_defaults(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    filled = {**_DEFAULTS[kind], **value}
    if isinstance(filled.get("upstream"), dict):
        filled["upstream"] = {**_DEFAULTS["upstreams"], **filled["upstream"]}
    return filled


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Merge `new` into `old`, nested mappings too. Null removes a name."""
    merged = dict(old)
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _shown(record: Record, *, indexes: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": f"/apisix/{record.kind}/{record.id}", "value": record.value}
    if indexes:
        shown |= {"createdIndex": record.created, "modifiedIndex": record.modified}
    return shown
