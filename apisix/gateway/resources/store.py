# SPDX-License-Identifier: Apache-2.0
"""The current definitions: those of apisix.yaml and those of the admin API, which take precedence."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from apisix.gateway.phases.plugins import PluginSet, guard_that_is_not_emulated
from apisix.gateway.resources.definitions import (
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
)
from apisix.gateway.routing.routes import DEFAULT_ROUTER, ConfSource, Consumer, Route, Router, Upstream

KINDS = ("routes", "upstreams", "services", "plugin_configs", "consumers", "global_rules")
_REFERENCES = {"upstreams": "upstream_id", "services": "service_id", "plugin_configs": "plugin_config_id"}
"""The field by which a route refers to a definition of each kind."""


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
        self._revision += 1
        stored = dict(value) if kind == "consumers" else {**value, "id": id}
        now = int(time.time())
        stored["create_time"] = old.value.get("create_time", now) if old else now
        stored["update_time"] = now
        problems = self._check(kind, stored)
        record = Record(kind, id, stored, old.created if old else self._revision, self._revision, str(self._revision))
        self._records[kind][id] = record
        self._rebuild()
        self._on_problems(problems)
        return record, old is None

    def delete(self, kind: str, id: str) -> None:
        """
        Remove a definition.

        Raises:
            KeyError: there is no definition with this id.
            InvalidDefinition: it is defined in the file, or a route still uses it.
        """
        record = self.records(kind)[id]
        if record.from_file and id not in self._records[kind]:
            raise InvalidDefinition(f"{kind.removesuffix('s')} [{id}] is defined in apisix.yaml: remove it there")
        field = _REFERENCES.get(kind, "")
        users = [route.id for route in self.records("routes").values() if str(route.value.get(field)) == id]
        if users:
            name = kind.removesuffix("s").replace("_", " ")
            raise InvalidDefinition(f"can not delete this {name}, route [{users[0]}] is still using it now")
        del self._records[kind][id]
        self._revision += 1
        self._rebuild()

    def replace_file(self, definitions: Mapping[str, Iterable[Definition]], version: str, problems: list[Problem]) -> None:
        """
        Replace the definitions of apisix.yaml. Definitions that APISIX would refuse are left out and reported.

        Args: problems: problems found while the file was loaded, to be reported together with those found here.
        """
        fresh: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            for number, value in enumerate(definitions.get(kind, ()), 1):
                self._revision += 1
                id = str(value.get("username" if kind == "consumers" else "id", number))
                if id in fresh[kind]:
                    problems.append(Problem(f"{kind.removesuffix('s')} {id}", "is defined more than once; the last one is used"))
                stored = dict(value) if kind == "consumers" else {**value, "id": id}
                fresh[kind][id] = Record(kind, id, stored, self._revision, self._revision, version, from_file=True)
        self._file = fresh
        problems += self._rebuild()
        self._on_problems(problems)

    def _check(self, kind: str, value: Definition) -> list[Problem]:
        problems: list[Problem] = []
        where = f"{kind.removesuffix('s')} {value.get('id', value.get('username'))}"
        if kind == "upstreams":
            build_upstream(value, where, problems)
        elif kind == "consumers":
            build_consumer(value, "0", problems)
        elif kind == "routes":
            build_route(value, self._resources([]), "0", problems)
        else:
            build_plugins(value, SERVICE_FIELDS if kind == "services" else PLUGIN_CONFIG_FIELDS, where, problems)
            if "upstream" in value:
                build_upstream(value["upstream"], where, problems)
        return problems

    def _valid(self, kind: str, problems: list[Problem], build: Callable[[Record], Built]) -> dict[str, tuple[Record, Built]]:
        """Return the definitions of a kind with what `build` makes of them. Those that APISIX would refuse are reported and left out."""
        built: dict[str, tuple[Record, Built]] = {}
        for id, record in self.records(kind).items():
            try:
                built[id] = record, build(record)
            except InvalidDefinition as error:
                problems.append(Problem(f"{kind.removesuffix('s').replace('_', ' ')} {id}", f"left out: {error}"))
        return built

    def _resources(self, problems: list[Problem]) -> Resources:
        def upstream(record: Record) -> Upstream:
            return build_upstream(record.value, f"upstream {record.id}", problems)

        def plugins(record: Record) -> Definition:
            is_service = record.kind == "services"
            where = f"{'service' if is_service else 'plugin config'} {record.id}"
            return build_plugins(record.value, SERVICE_FIELDS if is_service else PLUGIN_CONFIG_FIELDS, where, problems)

        return Resources(
            {id: built for id, (_, built) in self._valid("upstreams", problems, upstream).items()},
            {id: record for id, (record, _) in self._valid("services", problems, plugins).items()},
            {id: record for id, (record, _) in self._valid("plugin_configs", problems, plugins).items()},
            self._unknown_plugins,
        )

    def _rebuild(self) -> list[Problem]:
        problems: list[Problem] = []
        resources = self._resources(problems)

        def route(record: Record) -> Route:
            return build_route(record.value, resources, record.version, problems, strict=not record.from_file)

        def consumer(record: Record) -> Consumer:
            return build_consumer(record.value, record.version, problems)

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
        return problems
