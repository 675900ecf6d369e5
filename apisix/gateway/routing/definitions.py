# SPDX-License-Identifier: Apache-2.0
"""
Definitions of routes and upstreams in apisix.yaml or in the JSON of the admin API: check them and convert them to values.

Definitions that APISIX refuses are refused with the same message. Fields that APISIX supports and this gateway does not are reported.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from apisix.gateway.phases import proxy_rewrite
from apisix.gateway.routing.known_plugins import KNOWN_PLUGINS
from apisix.gateway.routing.routes import Node, Route, Upstream
from apisix.runner.http.phase import Phase

Definition = Mapping[str, Any]
Converted = TypeVar("Converted")

# The fields of a route and of an upstream with the type that APISIX expects. Source: APISIX 3.x, the Admin API's manual.
ROUTE_FIELDS: dict[str, str] = {
    **dict.fromkeys(("uri", "host", "name", "desc", "remote_addr", "script", "filter_func"), "string"),
    **dict.fromkeys(("uris", "hosts", "methods", "remote_addrs", "vars"), "array"),
    **dict.fromkeys(("plugins", "upstream", "labels", "timeout"), "object"),
    **dict.fromkeys(("priority", "status", "create_time", "update_time"), "integer"),
    **dict.fromkeys(("id", "upstream_id", "service_id", "plugin_config_id"), "id"),
    "enable_websocket": "boolean",
}
UPSTREAM_FIELDS: dict[str, str] = {
    **dict.fromkeys(
        ("type", "name", "desc", "pass_host", "upstream_host", "scheme", "hash_on", "key", "service_name", "discovery_type"), "string"
    ),
    **dict.fromkeys(("timeout", "labels", "checks", "tls", "keepalive_pool", "discovery_args"), "object"),
    **dict.fromkeys(("retries", "retry_timeout", "create_time", "update_time"), "number"),
    "nodes": "nodes",
    "id": "id",
}

# Fields that have an effect in APISIX, but not in this gateway.
_UNSUPPORTED_IN_ROUTE = ("vars", "filter_func", "script", "service_id", "plugin_config_id", "enable_websocket", "timeout")
_UNSUPPORTED_IN_UPSTREAM = (
    "checks",
    "tls",
    "keepalive_pool",
    "service_name",
    "discovery_type",
    "discovery_args",
    "retries",
    "retry_timeout",
)

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "array": (list,),
    "object": (dict,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "id": (str, int),
    "nodes": (dict, list),
}
_ID = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"})
_PHASES = frozenset(phase.value for phase in Phase)


Text = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Weight = Annotated[int, msgspec.Meta(ge=0)]


class _NodeEntry(msgspec.Struct):
    host: Text
    port: Port = 80
    weight: Weight = 1


class _Timeout(msgspec.Struct):
    connect: Seconds = 60.0
    send: Seconds = 60.0
    read: Seconds = 60.0


class InvalidDefinition(ValueError):
    """APISIX would refuse this definition, with this message in its admin API."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a definition that is refused or has no effect here. `where` names the route or upstream."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def build_upstream(raw: Definition, where: str, problems: list[Problem]) -> Upstream:
    """
    Convert an upstream. Unsupported fields are added to `problems`.

    Raises: InvalidDefinition: APISIX would refuse it.
    """
    _check_fields(raw, UPSTREAM_FIELDS)
    problems.extend(_unsupported(where, [f"{name} of the upstream" for name in _UNSUPPORTED_IN_UPSTREAM if name in raw]))
    if raw.get("type", "roundrobin") != "roundrobin":
        problems.append(
            Problem(where, f"upstream type {raw['type']} is not supported by the development gateway: roundrobin is used instead")
        )
    if raw.get("scheme", "http") != "http":
        problems.append(
            Problem(where, f"upstream scheme {raw['scheme']} is not supported by the development gateway: http is used instead")
        )
    if "nodes" not in raw and "service_name" not in raw:
        raise InvalidDefinition("invalid configuration: value should match only one schema, but matches none")
    _check_id(raw)
    timeout = _convert("timeout", raw.get("timeout", {}), _Timeout)
    return Upstream(
        _nodes(raw.get("nodes", {})),
        pass_host=raw.get("pass_host", "pass"),
        upstream_host=raw.get("upstream_host"),
        connect_timeout_s=timeout.connect,
        send_timeout_s=timeout.send,
        read_timeout_s=timeout.read,
    )


def build_route(raw: Definition, upstreams: Mapping[str, Upstream], version: str, problems: list[Problem]) -> Route:
    """
    Convert a route. Unsupported fields are added to `problems`.

    Args: upstreams: the upstreams to which `upstream_id` may refer.
    Raises: InvalidDefinition: APISIX would refuse it.
    """
    where = f"route {raw.get('id', '?')}"
    _check_fields(raw, ROUTE_FIELDS)
    _check_id(raw)
    if raw.get("status", 1) not in (0, 1):
        raise InvalidDefinition('invalid configuration: property "status" validation failed: matches none of the enum values')
    if ("uri" in raw) == ("uris" in raw):
        raise InvalidDefinition(
            "invalid configuration: value should match only one schema, but matches " + ("both" if "uri" in raw else "none")
        )
    problems.extend(_unsupported(where, [name for name in _UNSUPPORTED_IN_ROUTE if raw.get(name)]))
    lists = {name: _convert(name, raw[name], list[Text]) for name in ("uris", "hosts", "methods", "remote_addrs") if name in raw}
    if not _METHODS.issuperset(lists.get("methods", ())):
        raise InvalidDefinition('invalid configuration: property "methods" validation failed: matches none of the enum values')
    problems.extend(
        Problem(where, f"{uri!r} does not begin with a slash, so no request matches it")
        for uri in lists.get("uris", [raw.get("uri", "/")])
        if not uri.startswith("/")
    )
    plugins = raw.get("plugins", {})
    _check_plugins(plugins, where, problems)
    return Route(
        id=str(raw["id"]),
        uris=tuple(lists["uris"] if "uris" in lists else [raw["uri"]]),
        methods=frozenset(lists.get("methods", ())),
        hosts=tuple(lists.get("hosts", [raw["host"]] if "host" in raw else [])),
        remote_addrs=_networks(lists.get("remote_addrs", [raw["remote_addr"]] if "remote_addr" in raw else [])),
        priority=raw.get("priority", 0),
        name=raw.get("name"),
        plugins={name: conf for name, conf in plugins.items() if not conf.get("_meta", {}).get("disable")},
        upstream=_upstream_of(raw, upstreams, where, problems),
        version=version,
    )


def _check_id(raw: Definition) -> None:
    if "id" in raw and not _ID.fullmatch(str(raw["id"])):
        raise InvalidDefinition('invalid configuration: property "id" validation failed: object matches none of the required')


def _unsupported(where: str, names: list[str]) -> list[Problem]:
    return [Problem(where, f"{name} is not supported by the development gateway and has no effect") for name in names]


def _upstream_of(raw: Definition, upstreams: Mapping[str, Upstream], where: str, problems: list[Problem]) -> Upstream | None:
    if "upstream" in raw:
        return build_upstream(raw["upstream"], where, problems)
    if "upstream_id" in raw:
        id = str(raw["upstream_id"])
        if id not in upstreams:
            raise InvalidDefinition(f"failed to fetch upstream info by upstream id [{id}], response code: 404")
        return upstreams[id]
    return None


def _check_fields(raw: Definition, fields: Mapping[str, str]) -> None:
    for name, value in raw.items():
        if name not in fields:
            raise InvalidDefinition(f"invalid configuration: additional properties forbidden, found {name}")
        wanted = fields[name]
        if not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
            raise InvalidDefinition(
                f'invalid configuration: property "{name}" validation failed: wrong type: expected {wanted}, got {_type_name(value)}',
            )


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "table", dict: "table", type(None): "nil"}
    return names.get(type(value), type(value).__name__)


def _check_plugins(plugins: Definition, where: str, problems: list[Problem]) -> None:
    for name, conf in plugins.items():
        if name not in KNOWN_PLUGINS:
            raise InvalidDefinition(f"unknown plugin [{name}]")
        if not isinstance(conf, dict):
            raise InvalidDefinition(f"invalid plugin conf {conf!r} for plugin [{name}]")
        problems.extend(_check_meta(name, conf.get("_meta", {}), where))
        if name in _PHASES:
            _check_ext_plugin(name, conf)
        elif name == proxy_rewrite.NAME:
            extra = sorted(set(conf) - proxy_rewrite.SUPPORTED - {"_meta"})
            problems.extend(_unsupported(where, [f"{field} of proxy-rewrite" for field in extra]))
            if reason := proxy_rewrite.reason_against(conf):
                raise InvalidDefinition(f"failed to check the configuration of plugin {name} err: {reason}")
        else:
            problems.append(Problem(where, f"plugin {name} does not run in the development gateway: it is ignored"))


def _check_meta(name: str, meta: object, where: str) -> list[Problem]:
    if not isinstance(meta, dict):
        raise InvalidDefinition(f"failed to check the configuration of plugin {name} err: _meta has to be an object")
    return _unsupported(where, [f"_meta.{field} of {name}" for field in sorted(set(meta) - {"disable"})])


def _check_ext_plugin(name: str, plugin: Definition) -> None:
    def fail(reason: str) -> None:
        raise InvalidDefinition(f"failed to check the configuration of plugin {name} err: {reason}")

    if not isinstance(plugin.get("allow_degradation", False), bool):
        fail('property "allow_degradation" validation failed: wrong type: expected boolean')

    conf = plugin.get("conf", [{"name": "none", "value": ""}])
    if not isinstance(conf, list):
        fail(f'property "conf" validation failed: wrong type: expected array, got {_type_name(conf)}')
    if not conf:
        fail('property "conf" validation failed: expect array to have at least 1 items')
    for number, entry in enumerate(conf, 1):
        item = f'property "conf" validation failed: failed to validate item {number}: '
        if not isinstance(entry, dict):
            fail(f"{item}wrong type: expected object, got {_type_name(entry)}")
        for field in ("name", "value"):
            if field not in entry:
                fail(f'{item}property "{field}" is required')
            if not isinstance(entry[field], str):
                fail(f'{item}property "{field}" validation failed: wrong type: expected string, got {_type_name(entry[field])}')
        if not 1 <= len(entry["name"]) <= 128:
            expected = "long, expected at most 128" if entry["name"] else "short, expected at least 1"
            fail(f'{item}property "name" validation failed: string too {expected}')


def _nodes(raw: object) -> list[Node]:
    if isinstance(raw, list):
        return [Node(node.host, node.port, node.weight) for node in _convert("nodes", raw, list[_NodeEntry])]
    return [_node(address, weight) for address, weight in _convert("nodes", raw, dict[Text, Weight]).items()]


def _node(address: str, weight: int) -> Node:
    host, mark, port = address.rpartition(":")
    if not mark or port.endswith("]"):
        return Node(address.strip("[]"), 80, weight)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidDefinition(f'invalid configuration: property "nodes" validation failed: {address!r} has no valid port')
    return Node(host.strip("[]"), int(port), weight)


def _convert(name: str, value: object, kind: type[Converted]) -> Converted:
    """Convert the value of a field. The text after "failed:" is not APISIX's; it names the place and the reason."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f'invalid configuration: property "{name}" validation failed: {error}') from error


def _networks(addresses: list[str]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(address, strict=False) for address in addresses)
    except ValueError as error:
        raise InvalidDefinition(f'invalid configuration: property "remote_addrs" validation failed: {error}') from error
