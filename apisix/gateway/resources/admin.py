# SPDX-License-Identifier: Apache-2.0
"""
The admin API, with APISIX's status codes and bodies.

Source: apisix/admin of APISIX 3.18 and 2.15. Clients that it serves: `adc` (the declarative tool) and the ingress controller.
"""

import asyncio
import hmac
import ipaddress
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, json_answer
from apisix.gateway.phases import variables
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.quirks import LATEST, Version, quirks_of, unknown_plugins
from apisix.gateway.resources.configs import Configs
from apisix.gateway.resources.definitions import InvalidDefinition
from apisix.gateway.resources.kinds import KINDS, NAMED, kind_of
from apisix.gateway.resources.replies import Action, InvalidPage, Replies
from apisix.gateway.resources.schemas import plugin_descriptions, plugin_schema, schema_of
from apisix.gateway.resources.store import Store

PREFIX = "/apisix/admin"

# The key in the examples of APISIX's documentation. This gateway listens on the loopback interface only.
DEFAULT_KEY = "edd1c9f034335f136f87ad84b625c8f1"

V3: Version = (3, 0)
# Releases before this one add the defaults of their schema to what they store.
_STORES_AS_GIVEN: Version = (3, 14)
_FORBIDS_TIMES: Version = (3, 9)
_DESCRIBES_REFUSAL: Version = (3, 10)

_UPSTREAM_DEFAULTS = {"type": "roundrobin", "hash_on": "vars", "pass_host": "pass", "scheme": "http"}
_DEFAULTS: dict[str, dict[str, Any]] = {"routes": {"priority": 0, "status": 1}, "upstreams": _UPSTREAM_DEFAULTS}


class AdminApi:
    """
    Handles requests under `/apisix/admin`, which read and change the store.

    A page of another site must not reach it from the author's browser. So a request with a foreign Origin is refused, and the documented
    key is accepted only with a Host that is a loopback name: a page that uses DNS rebinding sends its own name.

    Args:
        key: the key that requests must have. If None, it is the documented one, or a random one for another Host.
        version: the release of APISIX to emulate.
    """

    def __init__(self, store: Store, key: str | None = None, version: Version = LATEST) -> None:
        self._store = store
        self._key = key
        self._random_key = secrets.token_hex(16)
        self._version = version
        self._replies = Replies(is_v3=version >= V3)
        self._configs = Configs(store)
        self._unknown_plugins = unknown_plugins(quirks_of(version))
        self._methods = {"GET": self._get, "PUT": self._put, "POST": self._post, "PATCH": self._patch, "DELETE": self._delete}

    def answer(self, context: RequestContext) -> Answer:
        """Answer one request."""
        if (refusal := self._refuse(context)) is not None:
            return refusal
        path = [segment for segment in context.uri.removeprefix(PREFIX).split("/") if segment]
        try:
            answer = self._dispatch(context, path)
        except InvalidPage as error:
            answer = _text_answer(400, str(error))
        except _InvalidBody as error:
            answer = json_answer(400, {"error_msg": str(error), "req_body": error.body})
        except InvalidDefinition as error:
            answer = json_answer(400, {"error_msg": str(error)})
        except KeyError:
            answer = json_answer(404, {"message": "Key not found"})
        if self._version >= V3:
            answer.headers["X-API-VERSION"] = "v3"
        return answer

    def _refuse(self, context: RequestContext) -> Answer | None:
        """Return the answer to a request of a client that must not use the admin API, None if it may."""
        origin = context.headers.get("origin")
        if origin is not None and not is_loopback_name(urlsplit(origin).hostname or ""):
            return json_answer(403, {"error_msg": f"requests from pages of {origin} are not allowed"})
        given = next((value for name in _KEY_VARIABLES if (value := variables.look_up(context, name)) is not None), None)
        key = self._key or (DEFAULT_KEY if is_loopback_name(context.host) else self._random_key)
        if given is not None and hmac.compare_digest(given.encode(errors="replace"), key.encode()):
            return None
        description = {"description": "missing apikey" if given is None else "wrong apikey"}
        return json_answer(401, {**(description if self._version >= _DESCRIBES_REFUSAL else {}), "error_msg": "failed to check token"})

    def _dispatch(self, context: RequestContext, path: Sequence[str]) -> Answer:
        """Answer a request that is allowed. `path`: the segments after `/apisix/admin`."""
        match (context.method, *path):
            case ("GET", "plugins", "list"):
                return json_answer(200, list(plugin_descriptions(self._unknown_plugins)))
            case ("PUT", "plugins", "reload"):
                return _text_answer(200, "done")
            case ("GET", "plugins", *rest) | ("GET", "schema", "plugins", *rest):
                return self._plugin(context, rest)
            case ("POST", "schema", "validate", name):
                return self._validate(name, _body(context))
            case ("GET", "schema", noun, *_):
                schema = schema_of(noun)
                return json_answer(400, {"error_msg": f"not found schema: {noun}"}) if schema is None else json_answer(200, schema)
            case (_, "configs", *rest):
                return self._configs.answer(context, rest)
            case (_, "stream_routes", *_):
                return json_answer(400, {"error_msg": "stream mode is disabled, can not add stream routes"})
            case ("HEAD",):
                return json_answer(200, {})
            case (_,):
                return json_answer(404, {"error_msg": "not found"})
            case _:
                return self._definitions(context, path)

    def _definitions(self, context: RequestContext, path: Sequence[str]) -> Answer:
        """Answer a request for definitions of one kind."""
        name, ids = path[0], list(path[1:])
        if name == "consumers" and len(ids) > 1 and ids[1] == "credentials" and kind_of("credentials", self._version):
            name, ids = "credentials", [ids[0], *ids[2:]]
        kind = kind_of(name, self._version)
        if kind is None:
            return json_answer(404, {"error_msg": f"Unsupported resource type: {name}" if self._version >= V3 else "not found"})
        if context.method not in self._methods:
            return json_answer(404, {"error_msg": "not found"})
        if context.method in KINDS[kind].refused:
            return json_answer(405, {"error_msg": f"not supported `{context.method}` method for {KINDS[kind].noun}"})
        # The ids of secrets and of credentials have two segments.
        length = 2 if kind in ("secrets", "credentials") else 1
        id, sub_path = "/".join(ids[:length]), ids[length:]
        if len(ids) < length:
            id = f"{id}/" if id else ""
        args = uris.parse_args(context.args or "")
        ttl = _number(args, "ttl")
        return self._methods[context.method](_Call(kind, id, sub_path, _body(context), args, ttl))

    def _plugin(self, context: RequestContext, path: Sequence[str]) -> Answer:
        """Return the schema of one plugin, or descriptions of all of them."""
        known = plugin_descriptions(self._unknown_plugins)
        if variables.look_up(context, "arg_all") == "true":
            return json_answer(200, known)
        if not path or path[0] not in known:
            return json_answer(404, {"error_msg": "plugin not found in subsystem http"})
        return json_answer(200, plugin_schema(path[0]))

    def _validate(self, name: str, body: object) -> Answer:
        """Check a definition without storing it."""
        kind = kind_of(name, self._version)
        if kind is None:
            return json_answer(404, {"error_msg": f"Unsupported resource type: {name}"})
        value = _definition(body)
        self._store.check(kind, str(value.get("id", value.get("username", ""))), value, among_others=False)
        return Answer(200)

    def _get(self, call: "_Call") -> Answer:
        records = self._store.records(call.kind)
        if call.kind == "credentials" and call.id.endswith("/"):
            below = self._store.credentials(call.id[:-1])
            if not below:
                raise KeyError(call.id)
            return json_answer(200, self._replies.list(call.kind, below, call.args, call.id))
        if not call.id:
            return json_answer(200, self._replies.list(call.kind, records.values(), call.args))
        return json_answer(200, self._replies.read(records[call.id]))

    def _put(self, call: "_Call") -> Answer:
        value = _definition(call.body)
        noun = KINDS[call.kind].noun
        id = call.id
        if call.kind == "consumers":
            if not isinstance(value.get("username"), str):
                raise InvalidDefinition('invalid configuration: property "username" is required')
            if id and value["username"] != id:
                raise InvalidDefinition("wrong username")
            id = value["username"]
        elif call.kind == "plugin_metadata":
            if not id:
                raise InvalidDefinition("missing plugin name")
        elif call.kind in ("secrets", "credentials"):
            if not id or id.endswith("/"):
                raise InvalidDefinition(f"missing {noun} id")
        else:
            id = id or str(value.get("id", ""))
            if not id:
                raise InvalidDefinition(f"missing {noun} id")
        if call.kind == "credentials" and id.partition("/")[0] not in self._store.records("consumers"):
            return json_answer(404, {"error_msg": "consumer not found"})
        if call.kind not in NAMED and "id" in value and str(value["id"]) != id.rpartition("/")[2]:
            raise InvalidDefinition(f"wrong {noun} id")
        self._check_times(value)
        return self._store_value(call, id, self._with_defaults(call.kind, value), "set")

    def _post(self, call: "_Call") -> Answer:
        value = _definition(call.body)
        if call.id or "id" in value:
            raise InvalidDefinition(f"wrong {KINDS[call.kind].noun} id, do not need it")
        self._check_times(value)
        return self._store_value(call, self._store.next_id(), self._with_defaults(call.kind, value), "create")

    def _patch(self, call: "_Call") -> Answer:
        noun = KINDS[call.kind].noun
        if not call.id or call.id.endswith("/"):
            raise InvalidDefinition(f"missing {noun} id")
        if call.body is None:
            raise InvalidDefinition("missing new configuration")
        if not call.sub_path and not isinstance(call.body, dict):
            raise InvalidDefinition("invalid configuration")
        old = self._store.records(call.kind)[call.id].value
        value = _replaced(old, call.sub_path, call.body) if call.sub_path else _merged(old, _definition(call.body))
        if str(value.get("id")) != call.id:
            raise InvalidDefinition(f"wrong {noun} id")
        return self._store_value(call, call.id, value, "compareAndSwap")

    def _delete(self, call: "_Call") -> Answer:
        if not call.id or call.id.endswith("/"):
            raise InvalidDefinition(f"missing {KINDS[call.kind].noun} id")
        self._store.delete(call.kind, call.id, force=call.args.get("force", [None])[-1] == "true")
        return json_answer(200, self._replies.deleted(call.kind, call.id))

    def _store_value(self, call: "_Call", id: str, value: dict[str, Any], action: Action) -> Answer:
        record, is_new = self._store.put(call.kind, id, value)
        if call.ttl is not None:
            asyncio.get_running_loop().call_later(max(call.ttl, 0), self._store.expire, record)
        return json_answer(201 if is_new else 200, self._replies.written(action, record))

    def _check_times(self, value: dict[str, Any]) -> None:
        """Refuse a definition with `create_time` or `update_time`, which only APISIX may set."""
        if self._version < _FORBIDS_TIMES:
            return
        for where in ("", "upstream", "plugins"):
            part = value.get(where) if where else value
            for name in ("create_time", "update_time"):
                if isinstance(part, dict) and part.get(name):
                    raise InvalidDefinition(f"the property is forbidden:  {where}{'.' if where else ''}{name}")

    def _with_defaults(self, kind: str, value: dict[str, Any]) -> dict[str, Any]:
        """Return a definition with the defaults that the emulated release adds before it stores it."""
        if self._version >= _STORES_AS_GIVEN:
            return value
        filled = {**_DEFAULTS.get(kind, {}), **value}
        if isinstance(filled.get("upstream"), dict):
            filled["upstream"] = {**_UPSTREAM_DEFAULTS, **filled["upstream"]}
        return filled


# The order in which APISIX looks for the key.
_KEY_VARIABLES = ("arg_api_key", "http_x_api_key", "cookie_x_api_key")


@dataclass(frozen=True, slots=True)
class _Call:
    """
    One request for definitions.

    Attributes:
        id: "" for all definitions of the kind; with a slash at its end for all credentials of a consumer.
        sub_path: the part of a definition to which PATCH applies.
        ttl: how long the definition exists, in seconds.
    """

    kind: str
    id: str
    sub_path: Sequence[str]
    body: object
    args: uris.Args
    ttl: float | None


class _InvalidBody(ValueError):
    """The body of a request is not JSON."""

    def __init__(self, message: str, body: str) -> None:
        super().__init__(message)
        self.body = body


def _body(context: RequestContext) -> object:
    if not context.body:
        return None
    try:
        return json.loads(context.body)
    except (ValueError, RecursionError) as error:
        raise _InvalidBody(f"invalid request body: {error}", context.body.decode(errors="replace")) from error


def _number(args: uris.Args, name: str) -> float | None:
    if name not in args:
        return None
    try:
        return float(args[name][-1] or "")
    except ValueError as error:
        raise InvalidDefinition(f"invalid argument {name}: should be a number") from error


def _text_answer(status: int, text: str) -> Answer:
    answer = json_answer(status, None)
    answer.body = text.encode()
    answer.headers["Content-Type"] = "text/plain; charset=utf-8"
    return answer


def _replaced(old: dict[str, Any], sub_path: Sequence[str], value: object) -> dict[str, Any]:
    """Return a definition in which the part at `sub_path` is replaced. Source: apisix/core/table.lua, `patch`."""
    changed = dict(old)
    part = changed
    for number, name in enumerate(sub_path[:-1], 1):
        inner = part.get(name, {})
        if not isinstance(inner, dict):
            raise InvalidDefinition(f"invalid sub-path: /{'/'.join(sub_path[:number])}")
        part[name] = part = dict(inner)
    part[sub_path[-1]] = value
    return changed


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


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Merge `new` into `old`, nested mappings too. Null removes a name. An empty mapping replaces, because in Lua it is an array too."""
    merged = dict(old)
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        elif value and isinstance(value, dict) and merged.get(name) and isinstance(merged[name], dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged
