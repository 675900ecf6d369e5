# SPDX-License-Identifier: Apache-2.0
"""Routes and upstreams, and which route a request matches. The rules are those of APISIX's radixtree, without its tree."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apisix.gateway.routing import expressions
from apisix.gateway.routing.balancing import BALANCERS, Node, RoundRobin

# The characters of a name in the pattern of a path. Source: lua-resty-radixtree, `:name` is one segment, `*name` is anything.
_SEGMENT, _REST = "([^/]+)", r"((?:.|\n)*)"


PARAMETER_ROUTER = "radixtree_uri_with_parameter"
ROUTERS = ("radixtree_uri", PARAMETER_ROUTER, "radixtree_host_uri")
"""The routers of APISIX, the values of `apisix.router.http` in its configuration."""
DEFAULT_ROUTER = "radixtree_host_uri"
"""The default since 3.3. Source: apisix/cli/config.lua of 3.10 to 3.18, conf/config-default.yaml of 3.3 to 3.9."""
OLD_DEFAULT_ROUTER = "radixtree_uri"
"""The default before 3.3. Source: conf/config-default.yaml of 2.7 to 3.2."""


STANDARD_PORTS = {"http": 80, "https": 443}
"""The port of a node that has none. It is left out of the header Host. Source: apisix/upstream.lua, `scheme_to_port`."""


@dataclass(slots=True)
class Upstream:
    """
    The servers to which requests are sent. Timeouts are in seconds.

    Attributes:
        type: how a node is selected, a key of `BALANCERS`.
        hash_on: `hash_on` and `key` for type `chash`, else None.
    """

    nodes: Sequence[Node]
    pass_host: str = "pass"  # noqa: S105  # not a password: APISIX's value for "pass the client's Host"
    upstream_host: str | None = None
    connect_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    read_timeout_s: float = 60.0
    retries: int | None = None
    scheme: str = "http"
    hash_on: tuple[str, str] | None = None
    type: str = "roundrobin"
    balancer: RoundRobin = field(init=False)

    def __post_init__(self) -> None:
        self.balancer = BALANCERS[self.type](self.nodes)

    def with_timeouts(self, connect_s: float, send_s: float, read_s: float) -> "Upstream":
        """Return this upstream with other timeouts. Both share their balancer."""
        changed = replace(self, connect_timeout_s=connect_s, send_timeout_s=send_s, read_timeout_s=read_s)
        changed.balancer = self.balancer
        return changed

    def without_timeouts(self) -> "Upstream":
        """Return this upstream with the default timeouts."""
        return self.with_timeouts(60.0, 60.0, 60.0)


@dataclass(frozen=True, slots=True)
class ConfSource:
    """What the key of PrepareConf says about a configuration: `route`, `1` and `42` in `route#1#ext-plugin-pre-req#42`."""

    type: str
    id: str
    version: str


@dataclass(frozen=True, slots=True)
class Credential:
    """The configuration of an authentication plugin in a consumer, or in its credential with this `id`."""

    plugin: str
    conf: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """
    A consumer.

    Attributes:
        plugins: those of its group and its own ones, which run for its requests, without credentials.
        guard: what guards its requests and is not emulated; None if there is nothing.
        group_version: the version of its consumer group.
    """

    name: str
    plugins: Mapping[str, Mapping[str, Any]]
    version: str
    credentials: tuple[Credential, ...] = ()
    custom_id: str | None = None
    group_id: str | None = None
    group_version: str = ""
    guard: str | None = None

    def merged_into(self, source: ConfSource) -> ConfSource:
        """Return what the key of PrepareConf says if the plugins of the consumer are merged with those of a route."""
        merged = ConfSource(f"{source.type}&consumer", f"{source.id}&{self.name}", f"{source.version}&{self.version}")
        if self.group_id is None:
            return merged
        return ConfSource(f"{merged.type}&consumer_group", f"{merged.id}&{self.group_id}", f"{merged.version}&{self.group_version}")


@dataclass(slots=True)
class Route:
    """
    One route, merged with its service and plugin configuration.

    Attributes:
        condition: an expression on variables that must hold for a request to match.
        missing_upstream: the id of an upstream that does not exist.
        enable_websocket: whether the upstream may switch protocols.
        guard: what guards the route and is not emulated, so that all requests are answered with 503; None if there is nothing.
        source: identifies the plugins in the key of PrepareConf.
    """

    id: str
    uris: tuple[str, ...]
    methods: frozenset[str] = frozenset()
    hosts: tuple[str, ...] = ()
    remote_addrs: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    priority: int = 0
    condition: Sequence[Any] = ()
    name: str | None = None
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    upstream: Upstream | None = None
    missing_upstream: str | None = None
    guard: str | None = None
    enable_websocket: bool = False
    service_id: str | None = None
    source: ConfSource = field(default_factory=lambda: ConfSource("route", "1", "1"))

    def accepts(self, method: str, remote_addr: str, look_up: expressions.LookUp) -> bool:
        """Return whether the route accepts requests with this method from this address and with these variables."""
        if self.methods and method not in self.methods:
            return False
        if not expressions.is_true(self.condition, look_up):
            return False
        if not self.remote_addrs:
            return True
        address = ipaddress.ip_address(remote_addr)
        return any(address in network for network in self.remote_addrs)


@dataclass(frozen=True, slots=True)
class Match:
    """A route and the text that each `:name` and `*name` of its path matched, by name."""

    route: Route
    params: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One path of one route. `prefix` is the part before the first `:` or `*`."""

    route: Route
    path: str
    prefix: str
    exact: bool
    pattern: re.Pattern[str] | None
    names: tuple[str, ...]


class Router:
    """
    Finds the route for a request.

    An exact path comes before a pattern, and a pattern with a longer fixed part before one with a shorter fixed part. Then the priority
    decides, and then the length of the pattern. With `radixtree_host_uri`, routes are compared by host first: an exact host comes before a
    wildcard, a longer wildcard before a shorter one, and routes without a host come last. With the other routers, a host is only a
    condition.

    Args:
        routes: the routes.
        kind: APISIX's setting `apisix.router.http`. `:name` is a parameter only with `radixtree_uri_with_parameter`, else it is literal.
    Source: lua-resty-radixtree; apisix/http/router; the recordings.
    """

    def __init__(self, routes: Iterable[Route], kind: str = DEFAULT_ROUTER) -> None:
        self._by_host: dict[str, list[_Entry]] = {}
        self._host_first = kind == "radixtree_host_uri"
        with_parameters = kind == PARAMETER_ROUTER
        for route in routes:
            for host in (route.hosts if self._host_first else ()) or ("",):
                self._by_host.setdefault(host.lower(), []).extend(_entry(route, path, with_parameters) for path in route.uris)
        for entries in self._by_host.values():
            entries.sort(key=lambda entry: (not entry.exact, -len(entry.prefix), -entry.route.priority, -len(entry.path)))

    def match(self, method: str, host: str, uri: str, remote_addr: str, look_up: expressions.LookUp = lambda _: None) -> Match | None:
        """
        Return the route that matches the request, None if there is none (404).

        Args: look_up: returns the variables of the request, for conditions.
        """
        for name in self._hosts_for(host):
            for entry in self._by_host[name]:
                params = _match_path(entry, uri)
                if params is None or not (self._host_first or _has_host(entry.route, host, look_up)):
                    continue
                if entry.route.accepts(method, remote_addr, look_up):
                    return Match(entry.route, params)
        return None

    def example_paths(self) -> list[str]:
        """Return one path of each route without a host, in the order of the routes, for commands to try."""
        entries = self._by_host.get("", [])
        paths = {id(entry.route): entry.prefix if not entry.exact else entry.path for entry in reversed(entries) if not entry.names}
        return sorted(path for path in paths.values() if path.startswith("/"))

    def _hosts_for(self, host: str) -> list[str]:
        fitting = [name for name in self._by_host if name and (name == host or (name.startswith("*") and host.endswith(name[1:])))]
        fitting.sort(key=lambda name: (name.startswith("*"), -len(name)))
        return [*fitting, ""] if "" in self._by_host else fitting


def _has_host(route: Route, host: str, look_up: expressions.LookUp) -> bool:
    """Return whether a route accepts a host. One with a port is compared with the header."""
    for wanted in map(str.lower, route.hosts):
        given = (look_up("http_host") or host).lower() if ":" in wanted else host
        if given.endswith(wanted[1:]) if wanted.startswith("*") else given == wanted:
            return True
    return not route.hosts


def _entry(route: Route, path: str, with_parameters: bool) -> _Entry:
    if not with_parameters and ":" in path:
        return _literal_entry(route, path)
    marks = [position for position in (path.find(":"), path.find("*")) if position >= 0]
    if not marks:
        return _Entry(route, path, path, exact=True, pattern=None, names=())
    # `:` takes precedence, as in radixtree, even if there is a `*` before it.
    prefix = path[: path.index(":")] if ":" in path else path[: path.index("*")]
    pattern, names = _pattern(path) if ":" in path or path.index("*") != len(path) - 1 else (None, ())
    return _Entry(route, path, prefix, exact=False, pattern=pattern, names=names)


def _literal_entry(route: Route, path: str) -> _Entry:
    """Return the entry of a path in which `:` has no meaning."""
    if "*" not in path:
        return _Entry(route, path, path, exact=True, pattern=None, names=())
    return _Entry(route, path, path[: path.index("*")], exact=False, pattern=None, names=())


def _pattern(path: str) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    names: list[str] = []
    parts: list[str] = []
    for segment in path.split("/"):
        if segment.startswith(":"):
            names.append(segment[1:])
            parts.append(_SEGMENT)
        elif segment.startswith("*"):
            names.append(segment[1:] or ":ext")
            parts.append(_REST)
        else:
            parts.append(re.escape(segment))
    # `:` or `*` in the middle of a segment is not a parameter: radixtree then compares the prefix only.
    return (re.compile("/".join(parts)), tuple(names)) if names else (None, ())


def _match_path(entry: _Entry, uri: str) -> dict[str, str] | None:
    if entry.exact:
        return {} if uri == entry.path else None
    if not uri.startswith(entry.prefix):
        return None
    if entry.pattern is None:
        return {":ext": uri[len(entry.prefix) :]} if entry.path.endswith("/*") else {}
    match = entry.pattern.fullmatch(uri)
    return None if match is None else dict(zip(entry.names, match.groups(), strict=False))
