# SPDX-License-Identifier: Apache-2.0
"""The routes and upstreams in force: those of apisix.yaml and, over them, those of the admin API."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apisix.gateway.routing.definitions import Definition, InvalidDefinition, Problem, build_route, build_upstream
from apisix.gateway.routing.routes import Router, Upstream

KINDS = ("routes", "upstreams")


@dataclass(frozen=True, slots=True)
class Record:
    """One definition. `version` is part of the key of PrepareConf: a change has to change it."""

    kind: str
    id: str
    value: dict[str, Any]
    created: int
    modified: int
    version: str
    from_file: bool = False


class Store:
    """
    Holds definitions and the router that is made of them.

    Args: on_problems: told what is refused or not supported, whenever that is found.
    """

    def __init__(self, on_problems: Callable[[list[Problem]], None] = lambda _: None) -> None:
        self._records: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._file: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._revision = 0
        self._on_problems = on_problems
        self.router = Router([])

    def records(self, kind: str) -> dict[str, Record]:
        """Return what is in force, by id."""
        return self._file[kind] | self._records[kind]

    def next_id(self) -> str:
        """Return the id of a definition that is created without one, as etcd would number it."""
        return f"{self._revision + 1:020d}"

    def report(self, problems: list[Problem]) -> None:
        """Tell what was found outside of the store, while definitions were read."""
        self._on_problems(problems)

    def put(self, kind: str, id: str, value: Definition) -> tuple[Record, bool]:
        """
        Create or replace a definition, and say whether it was created.

        Raises: InvalidDefinition: APISIX would refuse it; nothing has changed then.
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
            KeyError: there is none of that id.
            InvalidDefinition: it comes from the file, or a route still uses it.
        """
        record = self.records(kind)[id]
        if record.from_file and id not in self._records[kind]:
            raise InvalidDefinition(f"{kind.removesuffix('s')} [{id}] is written in apisix.yaml: remove it there")
        users = [route.id for route in self.records("routes").values() if kind == "upstreams" and str(route.value.get("upstream_id")) == id]
        if users:
            raise InvalidDefinition(f"can not delete this upstream, route [{users[0]}] is still using it now")
        del self._records[kind][id]
        self._revision += 1
        self._rebuild()

    def replace_file(self, definitions: Mapping[str, Iterable[Definition]], version: str, problems: list[Problem]) -> None:
        """
        Take over what apisix.yaml says now; definitions that APISIX would refuse are left out and said.

        Args: problems: what was found while the file was read, told together with what is found here.
        """
        fresh: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            for number, value in enumerate(definitions.get(kind, ()), 1):
                self._revision += 1
                id = str(value.get("id", number))
                if id in fresh[kind]:
                    problems.append(Problem(f"{kind.removesuffix('s')} {id}", "stands there more than once; only the last one counts"))
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
