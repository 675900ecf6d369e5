# SPDX-License-Identifier: Apache-2.0
"""
Definitions of routes and upstreams in apisix.yaml or in the JSON of the admin API: check them and convert them to values.

Definitions that APISIX refuses are refused with the same message. Fields that APISIX supports and this gateway does not are reported.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec

from apisix.gateway.phases import proxy_rewrite
from apisix.gateway.phases.plugins import AUTHENTICATION, CREDENTIALS, EMULATED, GUARDS, guard_that_is_not_emulated
from apisix.gateway.resources.known_plugins import KNOWN_PLUGINS
from apisix.gateway.routing import expressions
from apisix.gateway.routing.balancing import BALANCERS, Node
from apisix.gateway.routing.routes import STANDARD_PORTS, ConfSource, Consumer, Credential, Route, Upstream
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

SERVICE_FIELDS: dict[str, str] = {
    **dict.fromkeys(("name", "desc", "script"), "string"),
    **dict.fromkeys(("plugins", "upstream", "labels"), "object"),
    **dict.fromkeys(("create_time", "update_time"), "integer"),
    **dict.fromkeys(("id", "upstream_id"), "id"),
    "hosts": "array",
    "enable_websocket": "boolean",
}
PLUGIN_CONFIG_FIELDS: dict[str, str] = {
    **dict.fromkeys(("name", "desc"), "string"),
    **dict.fromkeys(("plugins", "labels"), "object"),
    **dict.fromkeys(("create_time", "update_time"), "integer"),
    "id": "id",
}
CONSUMER_FIELDS: dict[str, str] = {
    **dict.fromkeys(("username", "desc"), "string"),
    **dict.fromkeys(("plugins", "labels"), "object"),
    **dict.fromkeys(("create_time", "update_time"), "integer"),
    **dict.fromkeys(("id", "group_id"), "id"),
}
CREDENTIAL_FIELDS: dict[str, str] = dict(PLUGIN_CONFIG_FIELDS)
CONSUMER_GROUP_FIELDS: dict[str, str] = dict(PLUGIN_CONFIG_FIELDS)

# Fields that have an effect in APISIX, but not in this gateway.
_UNSUPPORTED_IN_UPSTREAM = ("tls", "service_name", "discovery_type", "discovery_args", "keepalive_pool", "retry_timeout")
NO_HEALTH_CHECKS = "the health checks of the upstream (checks) have no effect in the development gateway: it sends requests to all nodes"

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
_USERNAME = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"})
_PHASES = frozenset(phase.value for phase in Phase)


Text = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Weight = Annotated[int, msgspec.Meta(ge=0)]


class _NodeEntry(msgspec.Struct):
    host: Text
    port: Port | None = None
    weight: Weight = 1
    priority: int = 0


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
    if "checks" in raw:
        problems.append(Problem(where, NO_HEALTH_CHECKS))
    if raw.get("type", "roundrobin") not in BALANCERS:
        raise InvalidDefinition('invalid configuration: property "type" validation failed: matches none of the enum values')
    if raw.get("scheme", "http") not in ("http", "https"):
        problems.append(Problem(where, f"upstream scheme {raw['scheme']} is not supported by the development gateway: it uses http"))
    if "nodes" not in raw and "service_name" not in raw:
        raise InvalidDefinition("invalid configuration: value should match only one schema, but matches none")
    _check_id(raw)
    timeout = _convert("timeout", raw.get("timeout", {}), _Timeout)
    return Upstream(
        _nodes(raw.get("nodes", {}), STANDARD_PORTS.get(raw.get("scheme", "http"), 80)),
        pass_host=raw.get("pass_host", "pass"),
        upstream_host=raw.get("upstream_host"),
        connect_timeout_s=timeout.connect,
        send_timeout_s=timeout.send,
        read_timeout_s=timeout.read,
        retries=None if "retries" not in raw else int(raw["retries"]),
        scheme="https" if raw.get("scheme") == "https" else "http",
        hash_on=(raw.get("hash_on", "vars"), raw.get("key", "remote_addr")) if raw.get("type") == "chash" else None,
        type=raw.get("type", "roundrobin"),
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One definition. `version` is part of the key of PrepareConf, so it is changed with every change."""

    kind: str
    id: str
    value: dict[str, Any]
    created: int
    modified: int
    version: str
    from_file: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """The definitions to which a route may refer, by id, and the plugins that the emulated release does not have."""

    upstreams: Mapping[str, Upstream]
    services: Mapping[str, Record]
    plugin_configs: Mapping[str, Record]
    unknown_plugins: frozenset[str] = frozenset()
    consumer_groups: Mapping[str, Record] = field(default_factory=dict)


NO_RESOURCES = Resources({}, {}, {})


def build_route(raw: Definition, resources: Resources, version: str, problems: list[Problem], *, strict: bool = True) -> Route:
    """
    Convert a route, merged with its service and plugin configuration. Unsupported fields are added to `problems`.

    Args: strict: whether an unknown `upstream_id` is an error, as in the admin API. In apisix.yaml, only the requests fail, with 502.
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
    lists = {name: _convert(name, raw[name], list[Text]) for name in ("uris", "hosts", "methods", "remote_addrs") if name in raw}
    if not _METHODS.issuperset(lists.get("methods", ())):
        raise InvalidDefinition('invalid configuration: property "methods" validation failed: matches none of the enum values')
    problems.extend(
        Problem(where, f"{uri!r} does not begin with a slash, so no request matches it")
        for uri in lists.get("uris", [raw.get("uri", "/")])
        if not uri.startswith("/")
    )
    condition = _condition(raw)
    check_plugins(raw.get("plugins", {}), where, problems)
    service, plugin_config = _referred(raw, "service_id", resources.services), _referred(raw, "plugin_config_id", resources.plugin_configs)
    # A plugin of the route takes precedence over that of its plugin configuration, and this over that of the service.
    sets = [record.value.get("plugins", {}) for record in (service, plugin_config) if record is not None]
    plugins = enabled({name: conf for each in (*sets, raw.get("plugins", {})) for name, conf in each.items()})
    for name in resources.unknown_plugins & plugins.keys():
        raise InvalidDefinition(f"unknown plugin [{name}]")
    guard = _guard(raw, condition) or guard_that_is_not_emulated(plugins)
    if guard is not None:
        problems.append(Problem(where, f"{guard} is not supported by the development gateway, so all requests are answered with 503"))
    own, inherited = lists.get("hosts", [raw["host"]] if "host" in raw else []), [] if service is None else service.value.get("hosts", [])
    upstream, missing = _upstream_of(raw, service, resources.upstreams, where, problems, strict=strict)
    if upstream is not None and "timeout" in raw:
        timeout = _convert("timeout", raw["timeout"], _Timeout)
        upstream = upstream.with_timeouts(timeout.connect, timeout.send, timeout.read)
    return Route(
        id=str(raw["id"]),
        uris=tuple(lists["uris"] if "uris" in lists else [raw["uri"]]),
        methods=frozenset(lists.get("methods", ())),
        hosts=tuple(own or inherited),
        remote_addrs=_networks(lists.get("remote_addrs", [raw["remote_addr"]] if "remote_addr" in raw else [])),
        priority=raw.get("priority", 0),
        condition=condition or [],
        name=raw.get("name"),
        plugins=plugins,
        upstream=upstream,
        missing_upstream=missing,
        guard=guard,
        enable_websocket=raw.get("enable_websocket", False if service is None else service.value.get("enable_websocket", False)),
        service_id=None if service is None else str(raw["service_id"]),
        source=_source(raw, version, service, plugin_config),
    )


def build_plugins(raw: Definition, fields: Mapping[str, str], where: str, problems: list[Problem]) -> dict[str, Any]:
    """
    Return the enabled plugins of a service, a plugin configuration, a consumer or a global rule.

    Raises: InvalidDefinition: APISIX would refuse the definition.
    """
    _check_fields(raw, fields)
    _check_id(raw)
    check_plugins(raw.get("plugins", {}), where, problems, is_consumer=fields is CONSUMER_FIELDS or fields is CREDENTIAL_FIELDS)
    return enabled(raw.get("plugins", {}))


def build_consumer(
    raw: Definition, version: str, resources: Resources, problems: list[Problem], credentials: Iterable[Record] = ()
) -> Consumer:
    """
    Convert a consumer, merged with its group.

    Args: credentials: the definitions under `/consumers/NAME/credentials`.
    Raises: InvalidDefinition: APISIX would refuse it.
    """
    if not isinstance(raw.get("username"), str):
        raise InvalidDefinition('invalid configuration: property "username" is required')
    if not _USERNAME.fullmatch(raw["username"]):
        raise InvalidDefinition(
            'invalid configuration: property "username" validation failed: failed to match pattern "^[a-zA-Z0-9_\\-]+$" '
            f'with "{raw["username"]}"'
        )
    where = f"consumer {raw['username']}"
    own = build_plugins(raw, CONSUMER_FIELDS, where, problems)
    group = _referred(raw, "group_id", resources.consumer_groups)
    plugins = {**({} if group is None else enabled(group.value.get("plugins", {}))), **own}
    running = {name: conf for name, conf in plugins.items() if name not in CREDENTIALS}
    guard = guard_that_is_not_emulated(running)
    if guard is not None:
        problems.append(Problem(where, f"{guard} is not supported by the development gateway, so its requests are answered with 503"))
    found = [*credentials_of(own)]
    for record in credentials:
        found += credentials_of(record.value.get("plugins", {}), record.id.partition("/")[2])
    return Consumer(
        raw["username"],
        running,
        version,
        tuple(found),
        custom_id=raw.get("labels", {}).get("custom_id"),
        group_id=None if group is None else group.id,
        group_version="" if group is None else group.version,
        guard=guard,
    )


def credentials_of(plugins: Definition, id: str | None = None) -> tuple[Credential, ...]:
    """Return the credentials that are emulated, from the plugins of a consumer, or of its credential with this id."""
    return tuple(Credential(name, conf, id) for name, conf in plugins.items() if name in AUTHENTICATION)


def check_credential(raw: Definition, where: str, problems: list[Problem]) -> None:
    """Raise InvalidDefinition if APISIX would refuse a credential of a consumer."""
    plugins = raw.get("plugins", {})
    if isinstance(plugins, dict) and len(plugins) > 1:
        raise InvalidDefinition('invalid configuration: property "plugins" validation failed: expect object to have at most 1 properties')
    build_plugins({name: value for name, value in raw.items() if name != "id"}, CREDENTIAL_FIELDS, where, problems)
    if any(name not in CREDENTIALS for name in plugins):
        raise InvalidDefinition("only supports auth type plugins in consumer credential")
    problems.extend(Problem(where, f"{name} is not supported by the development gateway") for name in plugins if name not in AUTHENTICATION)


def enabled(plugins: Definition) -> dict[str, Any]:
    """Return the plugins that `_meta.disable` does not switch off."""
    return {name: conf for name, conf in plugins.items() if not conf.get("_meta", {}).get("disable")}


def _condition(raw: Definition) -> list[Any] | None:
    """Return the expression of `vars` and `filter_func`; None if `filter_func` is not one of the simple forms that are supported."""
    condition = list(raw.get("vars", []))
    try:
        expressions.check(condition)
    except expressions.InvalidExpression as error:
        raise InvalidDefinition(f"failed to validate the 'vars' expression: {error}") from error
    if "filter_func" in raw:
        from_function = expressions.from_lua(raw["filter_func"])
        return None if from_function is None else [*condition, from_function]
    return condition


def _guard(raw: Definition, condition: list[Any] | None) -> str | None:
    return "filter_func" if condition is None else "script" if raw.get("script") else None


def _referred(raw: Definition, field: str, records: Mapping[str, Record]) -> Record | None:
    if field not in raw:
        return None
    id = str(raw[field])
    if id not in records:
        kind = field.removesuffix("_id").replace("_", " ")
        raise InvalidDefinition(f"failed to fetch {kind} info by {kind} id [{id}], response code: 404")
    return records[id]


def _source(raw: Definition, version: str, service: Record | None, plugin_config: Record | None) -> ConfSource:
    """Return what identifies the plugins of a route in the key of PrepareConf. Source: gateway contract, 9."""
    id = str(raw["id"])
    if plugin_config is not None:
        version = f"{version}#{plugin_config.version}"
    if service is None:
        return ConfSource("route", id, version)
    return ConfSource("route&service", f"{id}&{raw['service_id']}", f"{version}&{service.version}")


def _check_id(raw: Definition) -> None:
    if "id" in raw and not _ID.fullmatch(str(raw["id"])):
        raise InvalidDefinition('invalid configuration: property "id" validation failed: object matches none of the required')


def _unsupported(where: str, names: list[str]) -> list[Problem]:
    return [Problem(where, f"{name} is not supported by the development gateway and has no effect") for name in names]


def _upstream_of(
    raw: Definition, service: Record | None, upstreams: Mapping[str, Upstream], where: str, problems: list[Problem], *, strict: bool
) -> tuple[Upstream | None, str | None]:
    """Return the upstream of a route or its service, and the id of an upstream that does not exist."""
    for definition in (raw, {} if service is None else service.value):
        if "upstream" in definition:
            return build_upstream(definition["upstream"], where, problems), None
        if "upstream_id" in definition:
            id = str(definition["upstream_id"])
            if id not in upstreams and strict:
                raise InvalidDefinition(f"failed to fetch upstream info by upstream id [{id}], response code: 404")
            return upstreams.get(id), None if id in upstreams else id
    return None, None


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


def check_plugins(plugins: Definition, where: str, problems: list[Problem], *, is_consumer: bool = False) -> None:
    """Check the configurations of plugins. Raise InvalidDefinition if APISIX would refuse one; add to `problems` what has no effect."""
    for name, conf in plugins.items():
        if name not in KNOWN_PLUGINS:
            raise InvalidDefinition(f"unknown plugin [{name}]")
        if not isinstance(conf, dict):
            raise InvalidDefinition(f"invalid plugin conf {conf!r} for plugin [{name}]")
        _check_meta(name, conf.get("_meta", {}))
        if name in _PHASES:
            _check_ext_plugin(name, conf)
        elif name in EMULATED:
            supported = EMULATED[name].supported
            extra = sorted(set(conf) - supported - {"_meta"}) if supported is not None and not is_consumer else []
            problems.extend(_unsupported(where, [f"{field} of {name}" for field in extra]))
            if name == proxy_rewrite.NAME and (reason := proxy_rewrite.reason_against(conf)):
                raise InvalidDefinition(f"failed to check the configuration of plugin {name} err: {reason}")
        elif name not in GUARDS:
            problems.append(Problem(where, f"plugin {name} does not run in the development gateway: it is ignored"))


def _check_meta(name: str, meta: object) -> None:
    def fail(reason: str) -> None:
        raise InvalidDefinition(f"failed to check the configuration of plugin {name} err: {reason}")

    if not isinstance(meta, dict):
        fail("_meta has to be an object")
    else:
        try:
            expressions.check(meta.get("filter", []))
        except expressions.InvalidExpression as error:
            fail(f"failed to validate the 'vars' expression: {error}")
        if not isinstance(meta.get("priority", 0), int):
            fail('property "priority" validation failed: wrong type: expected integer')


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
        for required in ("name", "value"):
            if required not in entry:
                fail(f'{item}property "{required}" is required')
            if not isinstance(entry[required], str):
                fail(f'{item}property "{required}" validation failed: wrong type: expected string, got {_type_name(entry[required])}')
        if not 1 <= len(entry["name"]) <= 128:
            expected = "long, expected at most 128" if entry["name"] else "short, expected at least 1"
            fail(f'{item}property "name" validation failed: string too {expected}')


def _nodes(raw: object, port: int) -> list[Node]:
    """Convert nodes. `port` is used for those that have none."""
    if isinstance(raw, list):
        return [Node(node.host, node.port or port, node.weight, node.priority) for node in _convert("nodes", raw, list[_NodeEntry])]
    return [_node(address, weight, port) for address, weight in _convert("nodes", raw, dict[Text, Weight]).items()]


def _node(address: str, weight: int, default_port: int) -> Node:
    host, mark, port = address.rpartition(":")
    if not mark or port.endswith("]"):
        return Node(address.strip("[]"), default_port, weight)
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
