# SPDX-License-Identifier: Apache-2.0
"""The current definitions: those of apisix.yaml and those of the admin API, which take precedence."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from apisix.gateway.phases.plugins import PluginSet, guard_that_is_not_emulated
from apisix.gateway.resources.definitions import (
    CONSUMER_GROUP_FIELDS,
    PLUGIN_CONFIG_FIELDS,
    SERVICE_FIELDS,
    Definition,
    InvalidDefinition,
    Problem,
    Record,
    Resources,
    build_consumer,
    build_plugins,
    build_route,
    build_upstream,
    check_credential,
    credentials_of,
)
from apisix.gateway.resources.kinds import KINDS
from apisix.gateway.resources.known_plugins import KNOWN_PLUGINS
from apisix.gateway.routing.routes import DEFAULT_ROUTER, PARAMETER_ROUTER, ConfSource, Consumer, Route, Router, Upstream

_USERS: dict[str, tuple[tuple[str, str], ...]] = {
    "upstreams": (("routes", "upstream_id"), ("services", "upstream_id")),
    "services": (("routes", "service_id"),),
    "plugin_configs": (("routes", "plugin_config_id"),),
    "consumer_groups": (("consumers", "group_id"),),
}
"""The kinds of definitions that may refer to each kind, and the field with which they do."""
_REFERENCES = frozenset(field for users in _USERS.values() for _, field in users)
_FIELDS = {
    "services": SERVICE_FIELDS,
    "plugin_configs": PLUGIN_CONFIG_FIELDS,
    "global_rules": PLUGIN_CONFIG_FIELDS,
    "consumer_groups": CONSUMER_GROUP_FIELDS,
}


Built = TypeVar("Built")


class Store:
    """
    Stores definitions, and builds the router from them.

    Args:
        on_problems: called with what is refused or not supported.
        router: the kind of router, one of `ROUTERS`.
        unknown_plugins: plugins that the emulated release does not have; a route with one of them is refused.
    Attributes:
        global_rules: the plugins that run for all requests, and what guards them and is not emulated.
        consumers: all consumers.
        problems: what was found in the current definitions when the router was built.
        on_change: called when definitions have changed, before their problems are reported.
    """

    def __init__(
        self,
        on_problems: Callable[[list[Problem]], None] = lambda _: None,
        *,
        router: str = DEFAULT_ROUTER,
        unknown_plugins: frozenset[str] = frozenset(),
    ) -> None:
        self._records: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._file: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._revision = 0
        self._on_problems = on_problems
        self._router_kind = router
        self._unknown_plugins = unknown_plugins
        self.router = Router([])
        self.global_rules: list[tuple[PluginSet, str | None]] = []
        self.consumers: list[Consumer] = []
        self.problems: list[Problem] = []
        self.on_change: Callable[[], None] = lambda: None

    def records(self, kind: str) -> dict[str, Record]:
        """Return the current definitions, by id."""
        return self._file[kind] | self._records[kind]

    def next_id(self) -> str:
        """Return an id for a definition that is created without one, in the format of etcd."""
        return f"{self._revision + 1:020d}"

    def report(self, problems: list[Problem]) -> None:
        """Report problems that were found outside the store, while definitions were loaded."""
        self._on_problems(problems)

    def put(self, kind: str, id: str, value: Definition) -> tuple[Record, bool]:
        """
        Create or replace a definition, and return whether it was created.

        Raises: InvalidDefinition: APISIX would refuse it; nothing is changed.
        """
        old = self.records(kind).get(id)
        stored = dict(value) if kind == "consumers" else {**value, "id": id.partition("/")[2] if kind == "credentials" else id}
        if kind != "plugin_metadata":
            now = int(time.time())
            stored["create_time"] = old.value.get("create_time", now) if old else now
            stored["update_time"] = now
        problems = self.check(kind, id, stored)
        self._revision += 1
        record = Record(kind, id, stored, old.created if old else self._revision, self._revision, str(self._revision))
        self._records[kind][id] = record
        self._rebuild()
        self._on_problems(problems)
        return record, old is None

    def delete(self, kind: str, id: str, *, force: bool = False) -> None:
        """
        Remove a definition, and the credentials of a consumer with it.

        Args: force: also if other definitions refer to it.
        Raises:
            KeyError: there is no definition with this id.
            InvalidDefinition: it is defined in the file, or another definition still refers to it.
        """
        noun = KINDS[kind].noun
        if self.records(kind)[id].from_file and id not in self._records[kind]:
            raise InvalidDefinition(f"{noun} [{id}] is defined in apisix.yaml: remove it there")
        for user_kind, field in () if force else _USERS.get(kind, ()):
            for user in self.records(user_kind).values():
                if str(user.value.get(field)) == id:
                    directly = " directly" if kind == "services" else ""
                    using = f"{KINDS[user_kind].noun} [{user.id}] is still using it now"
                    raise InvalidDefinition(f"can not delete this {noun}{directly}, {using}")
        del self._records[kind][id]
        if kind == "consumers":
            for credential in self.credentials(id):
                self._records["credentials"].pop(credential.id, None)
        self._revision += 1
        self._rebuild()

    def expire(self, record: Record) -> None:
        """Remove a definition whose time to live has ended, unless it has been replaced."""
        if self._records[record.kind].get(record.id) is record:
            self.delete(record.kind, record.id, force=True)

    def credentials(self, consumer: str) -> list[Record]:
        """Return the credentials of a consumer."""
        return [record for id, record in self.records("credentials").items() if id.startswith(f"{consumer}/")]

    def replace_file(self, definitions: Mapping[str, Iterable[Definition]], version: str, problems: list[Problem]) -> None:
        """
        Replace the definitions of apisix.yaml. Definitions that APISIX would refuse are left out and reported.

        Args: problems: problems found while the file was loaded, to be reported together with those found here.
        """
        fresh: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        for listed in KINDS:
            for number, value in enumerate(definitions.get(listed, ()), 1):
                self._revision += 1
                # In a file, the credentials of consumers are listed with the consumers.
                kind = "credentials" if listed == "consumers" and "/credentials/" in str(value.get("id")) else listed
                id = str(value.get("username" if kind == "consumers" else "id", number)).replace("/credentials/", "/")
                if id in fresh[kind]:
                    problems.append(Problem(f"{KINDS[kind].noun} {id}", "is defined more than once; the last one is used"))
                stored = dict(value) if kind == "consumers" else {**value, "id": id}
                fresh[kind][id] = Record(kind, id, stored, self._revision, self._revision, version, from_file=True)
        self._file = fresh
        problems += self._rebuild()
        self._on_problems(problems)

    def forget_changes(self) -> None:
        """Forget the definitions of the admin API, before a file that contains them is loaded."""
        self._records = {kind: {} for kind in KINDS}

    def check(self, kind: str, id: str, value: Definition, *, among_others: bool = True) -> list[Problem]:
        """
        Return what of a definition has no effect here.

        Args: among_others: whether the definitions to which it refers must exist, and it must not conflict with others.
        Raises: InvalidDefinition: APISIX would refuse it.
        """
        problems: list[Problem] = []
        where = f"{KINDS[kind].noun} {id}"
        if not KINDS[kind].has_effect:
            if kind == "plugin_metadata" and id not in KNOWN_PLUGINS:
                raise InvalidDefinition("invalid plugin name")
            return [Problem(where, "is stored, but has no effect in the development gateway")]
        if kind not in ("consumers", "credentials"):
            value = {**value, "id": value.get("id", "1")}
        if not among_others:
            value = {name: field for name, field in value.items() if name not in _REFERENCES}
        if kind == "upstreams":
            build_upstream(value, where, problems)
        elif kind == "consumers":
            built = build_consumer(value, "0", self._resources([]), problems)
            if among_others:
                self._check_duplicates(built, None)
        elif kind == "credentials":
            check_credential(value, where, problems)
            consumer, _, credential = id.partition("/")
            if among_others:
                self._check_duplicates(Consumer(consumer, {}, "0", credentials_of(value.get("plugins", {}), credential)), credential)
        elif kind == "routes":
            build_route(value, self._resources([]), "0", problems)
        else:
            build_plugins(value, _FIELDS[kind], where, problems)
            if "upstream" in value:
                build_upstream(value["upstream"], where, problems)
            if kind == "global_rules" and among_others:
                self._check_other_rules(id, value)
        return problems

    def _check_duplicates(self, given: Consumer, credential_id: str | None) -> None:
        """Refuse a key or user name that another consumer or credential has. Source: apisix/consumer.lua of 3.18."""
        attributes = {"key-auth": "key", "basic-auth": "username"}
        for credential in given.credentials:
            attribute = attributes[credential.plugin]
            for other in self.consumers:
                for owned in other.credentials:
                    is_same = other.name == given.name and (credential_id is None or owned.id == credential_id)
                    if not is_same and owned.plugin == credential.plugin and owned.conf.get(attribute) == credential.conf.get(attribute):
                        owner = f"consumer: {other.name}" if owned.id is None else f"credential: {owned.id} of consumer: {other.name}"
                        raise InvalidDefinition(f"duplicate {attribute} of plugin {credential.plugin} found with {owner}")

    def _check_other_rules(self, id: str, value: Definition) -> None:
        for record in self.records("global_rules").values():
            for name in value.get("plugins", {}):
                if record.id != id and name in record.value.get("plugins", {}):
                    raise InvalidDefinition(f"plugin '{name}' already exists in global rule with id '{record.id}'")

    def _valid(self, kind: str, problems: list[Problem], build: Callable[[Record], Built]) -> dict[str, tuple[Record, Built]]:
        """Return the definitions of a kind with what `build` makes of them. Those that APISIX would refuse are reported and left out."""
        built: dict[str, tuple[Record, Built]] = {}
        for id, record in self.records(kind).items():
            try:
                built[id] = record, build(record)
            except InvalidDefinition as error:
                problems.append(Problem(f"{KINDS[kind].noun} {id}", f"left out: {error}"))
        return built

    def _resources(self, problems: list[Problem]) -> Resources:
        def upstream(record: Record) -> Upstream:
            return build_upstream(record.value, f"upstream {record.id}", problems)

        def plugins(record: Record) -> Definition:
            return build_plugins(record.value, _FIELDS[record.kind], f"{KINDS[record.kind].noun} {record.id}", problems)

        return Resources(
            {id: built for id, (_, built) in self._valid("upstreams", problems, upstream).items()},
            {id: record for id, (record, _) in self._valid("services", problems, plugins).items()},
            {id: record for id, (record, _) in self._valid("plugin_configs", problems, plugins).items()},
            self._unknown_plugins,
            {id: record for id, (record, _) in self._valid("consumer_groups", problems, plugins).items()},
        )

    def _without_parameters(self, route: Route) -> Iterator[Problem]:
        """Yield a problem for each path that looks like one with parameters, but has none with this router."""
        for uri in route.uris if self._router_kind != PARAMETER_ROUTER else ():
            if name := next((segment for segment in uri.split("/") if segment.startswith(":")), None):
                yield Problem(
                    f"route {route.id}",
                    f"{name} in {uri} is not a parameter with the router {self._router_kind}, and matches only itself. If the gateway has "
                    f"apisix.router.http: {PARAMETER_ROUTER} in its config.yaml, start dev with --router {PARAMETER_ROUTER}",
                )

    def _rebuild(self) -> list[Problem]:
        problems: list[Problem] = []
        resources = self._resources(problems)

        def route(record: Record) -> Route:
            built = build_route(record.value, resources, record.version, problems, strict=not record.from_file)
            problems.extend(self._without_parameters(built))
            return built

        def consumer(record: Record) -> Consumer:
            return build_consumer(record.value, record.version, resources, problems, self.credentials(record.id))

        def rule(record: Record) -> Definition:
            return build_plugins(record.value, PLUGIN_CONFIG_FIELDS, f"global rule {record.id}", problems)

        routes = self._valid("routes", problems, route).values()
        self.router = Router([built for record, built in routes if record.value.get("status", 1) != 0], self._router_kind)
        self.consumers = [built for _, built in self._valid("consumers", problems, consumer).values()]
        self.global_rules = []
        for number, (record, plugins) in enumerate(self._valid("global_rules", problems, rule).values(), 1):
            # In stand-alone mode APISIX numbers global rules in the key (observed).
            source = ConfSource("global_rule", str(number) if record.from_file else record.id, record.version)
            guard = guard_that_is_not_emulated(plugins)
            if guard is not None:
                where = f"global rule {record.id}"
                problems.append(
                    Problem(where, f"{guard} is not supported by the development gateway, so all requests are answered with 503")
                )
            self.global_rules.append((PluginSet(source, plugins), guard))
        self.problems = problems
        self.on_change()
        return problems
