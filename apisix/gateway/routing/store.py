# SPDX-License-Identifier: Apache-2.0
"""The current routes and upstreams: those of apisix.yaml and those of the admin API, which take precedence."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apisix.gateway.routing.definitions import Definition, InvalidDefinition, Problem, build_route, build_upstream
from apisix.gateway.routing.routes import Router, Upstream

KINDS = ("routes", "upstreams")


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


class Store:
    """
    Stores definitions, and builds the router from them.

    Args: on_problems: called with what is refused or not supported.
    """

    def __init__(self, on_problems: Callable[[list[Problem]], None] = lambda _: None) -> None:
        self._records: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._file: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._revision = 0
        self._on_problems = on_problems
        self.router = Router([])

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
        stored = {**value, "id": id}
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
        users = [route.id for route in self.records("routes").values() if kind == "upstreams" and str(route.value.get("upstream_id")) == id]
        if users:
            raise InvalidDefinition(f"can not delete this upstream, route [{users[0]}] is still using it now")
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
                id = str(value.get("id", number))
                if id in fresh[kind]:
                    problems.append(Problem(f"{kind.removesuffix('s')} {id}", "is defined more than once; the last one is used"))
                fresh[kind][id] = Record(kind, id, {**value, "id": id}, self._revision, self._revision, version, from_file=True)
        self._file = fresh
        problems += self._rebuild()
        self._on_problems(problems)

    def _check(self, kind: str, value: Definition) -> list[Problem]:
        problems: list[Problem] = []
        if kind == "upstreams":
            build_upstream(value, f"upstream {value['id']}", problems)
        else:
            build_route(value, self._upstreams([]), "0", problems)
        return problems

    def _upstreams(self, problems: list[Problem]) -> dict[str, Upstream]:
        built: dict[str, Upstream] = {}
        for id, record in self.records("upstreams").items():
            try:
                built[id] = build_upstream(record.value, f"upstream {id}", problems)
            except InvalidDefinition as error:
                problems.append(Problem(f"upstream {id}", f"left out: {error}"))
        return built

    def _rebuild(self) -> list[Problem]:
        problems: list[Problem] = []
        upstreams = self._upstreams(problems)
        routes = []
        for id, record in self.records("routes").items():
            if record.value.get("status", 1) == 0:
                continue
            try:
                routes.append(build_route(record.value, upstreams, record.version, problems))
            except InvalidDefinition as error:
                problems.append(Problem(f"route {id}", f"left out: {error}"))
        self.router = Router(routes)
        return problems
