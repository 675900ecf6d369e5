# SPDX-License-Identifier: Apache-2.0
"""Show routes with the configurations of plugins, change a configuration, and write the definitions to apisix.yaml."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from apisix.gateway.inspector.configurations import ALL_SECRET, SHOWN, Configurations, Entry, Secrets, entries_of
from apisix.gateway.inspector.plugin_check import PluginCheck
from apisix.gateway.inspector.server import ApiError, Inspector
from apisix.gateway.resources.definitions import InvalidDefinition, Record
from apisix.gateway.resources.kinds import KINDS
from apisix.gateway.resources.standalone import RoutesFile
from apisix.gateway.resources.store import Store
from apisix.runner.http.phase import Phase

T = TypeVar("T")


class Value(msgspec.Struct, forbid_unknown_fields=True):
    """A new configuration of a plugin, as a route contains it. Digests are replaced by the secrets of the current configurations."""

    value: str


class Candidate(Value, forbid_unknown_fields=True):
    """A configuration to validate."""

    plugin: str
    phase: str = Phase.PRE_REQ


class Routes:
    """
    Adds the calls about routes to the API of an inspector.

    Args: on_change: called with a text when a configuration was changed.
    """

    def __init__(
        self,
        inspector: Inspector,
        store: Store,
        file: RoutesFile,
        check: PluginCheck,
        configurations: Configurations,
        on_change: Callable[[str], None],
    ) -> None:
        self._store = store
        self._file = file
        self._check = check
        self._configurations = configurations
        self._on_change = on_change
        inspector.add_call("GET", "/api/routes", self._list)
        inspector.add_call("POST", "/api/routes/write", self._write)
        inspector.add_call("PUT", "/api/routes/{id}/{phase}/{index}", self._put)
        inspector.add_call("POST", "/api/validate", self._validate)

    async def _list(self, values: Mapping[str, str], body: Any) -> object:
        """Return all routes with their plugins."""
        schemas = await self._check.schemas()
        listed = [(record, list(entries_of(record))) for record in self._configurations.records()]
        found = [(entry.phase, entry.name, entry.value) for _, entries in listed for entry in entries]
        problems = iter(await self._check.problems(found))
        secrets = Secrets()
        routes = [self._route(record, entries, [next(problems) for _ in entries], schemas, secrets) for record, entries in listed]
        shown = {(problem.where, problem.what) for problem in self._store.problems if problem.what.startswith("left out: ")}
        others = [secrets.hidden(str(each)) for each in self._store.problems if (each.where, each.what) not in shown]
        return {"routes": routes, "problems": others, "file": str(self._file.path)}

    def _route(
        self, record: Record, entries: list[Entry], problems: list[list[str]], schemas: Mapping[str, dict[str, Any]], secrets: Secrets
    ) -> dict[str, object]:
        phases: dict[str, list[dict[str, object]]] = {}
        for entry, found in zip(entries, problems, strict=True):
            shown = secrets.add(entry.value, schemas.get(entry.name, ALL_SECRET))
            plugin = {"name": entry.name, "value": shown, "schema": schemas.get(entry.name)}
            phases.setdefault(entry.phase, []).append({**plugin, "problem": secrets.hidden("; ".join(found)) or None})
        where = f"{KINDS[record.kind].noun} {record.id}"
        left_out = (problem.what for problem in self._store.problems if problem.where == where and problem.what.startswith("left out: "))
        is_route = record.kind == "routes"
        return {
            "id": record.id if is_route else f"{record.kind}/{record.id}",
            "name": record.value.get("name") if is_route else where,
            "methods": record.value.get("methods") or [],
            "uris": record.value.get("uris") or [uri for uri in [record.value.get("uri")] if uri],
            "origin": "apisix.yaml" if record.from_file else "admin API",
            "error": next(left_out, None),
            "phases": [{"phase": phase, "plugins": plugins} for phase, plugins in phases.items()],
        }

    async def _validate(self, values: Mapping[str, str], body: Any) -> object:
        """Return the problems of a configuration."""
        candidate = _converted(body, Candidate)
        secrets = await self._configurations.secrets()
        try:
            value = secrets.restored(candidate.value)
        except ApiError as error:
            return {"problems": [str(error)]}
        return {"problems": await self._problems(candidate.phase, candidate.plugin, value, secrets)}

    async def _problems(self, phase: str, plugin: str, value: str, secrets: Secrets) -> list[str]:
        if phase not in list(Phase):
            raise ApiError(400, f"{phase} is not a phase; expected one of {', '.join(Phase)}")
        (problems,) = await self._check.problems([(phase, plugin, value)])
        return [secrets.hidden(problem) for problem in problems]

    async def _put(self, values: Mapping[str, str], body: Any) -> object:
        """Change the configuration of a plugin in the running gateway, as the admin API does."""
        given = _converted(body, Value)
        entry = self._entry(values)
        secrets = await self._configurations.secrets()
        value = secrets.restored(given.value)
        if problems := await self._problems(entry.phase, entry.name, value, secrets):
            raise ApiError(400, "; ".join(problems))
        if entry != self._entry(values):
            raise ApiError(409, "the route was changed meanwhile: load the page again")
        record = self._record(values["id"])
        changed = copy.deepcopy(dict(record.value))
        changed["plugins"][entry.phase]["conf"][entry.index]["value"] = value
        try:
            self._store.put(record.kind, record.id, changed)
        except InvalidDefinition as error:
            raise ApiError(400, secrets.hidden(str(error))) from error
        self._on_change(f"{KINDS[record.kind].noun} {record.id}: {entry.name} has a new configuration")
        return {}

    def _record(self, id: str) -> Record:
        kind, slash, name = id.partition("/")
        if not slash or kind not in SHOWN:
            kind, name = "routes", id
        found = self._store.records(kind).get(name)
        if found is None:
            raise ApiError(404, f"there is no {KINDS[kind].noun} {name}")
        return found

    def _entry(self, values: Mapping[str, str]) -> Entry:
        record = self._record(values["id"])
        for entry in entries_of(record):
            if (entry.phase, str(entry.index)) == (values["phase"], values["index"]):
                return entry
        raise ApiError(404, f"{KINDS[record.kind].noun} {record.id} has no plugin {values['index']} in {values['phase']}")

    async def _write(self, values: Mapping[str, str], body: Any) -> object:
        """Write all definitions to apisix.yaml."""
        try:
            self._file.write()
        except ValueError as error:
            raise ApiError(409, str(error)) from error
        except OSError as error:
            raise ApiError(500, f"{error.filename} can't be written: {error.strerror}") from error
        path = self._file.path
        note = f"The previous file is {path}.bak. Comments were lost."
        return {"path": str(path), "note": note}


def _converted(body: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise ApiError(400, str(error)) from None
