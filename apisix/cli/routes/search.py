# SPDX-License-Identifier: Apache-2.0
"""
Find the runner's configurations in routes, and parts that look like one but are not.

A configuration is the value of one of the three phases in `plugins`, of a route, a service, a plugin_config, a consumer or a global
rule. The form of the file does not matter, except for Kubernetes manifests. A phase in another place is a problem, because APISIX ignores
or refuses it there.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from apisix.cli.routes.files import line_of
from apisix.cli.routes.found import FoundConf, RouteProblem, SkippedDocument
from apisix.cli.routes.manifests import Manifest, is_manifest, read_manifests
from apisix.gateway.resources.configs import LISTS
from apisix.gateway.resources.definitions import CONSUMER_FIELDS, NO_HEALTH_CHECKS, ROUTE_FIELDS, SERVICE_FIELDS, UPSTREAM_FIELDS
from apisix.gateway.resources.known_plugins import KNOWN_PLUGINS
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.loading.registry import Registry

_PHASES: Final = [phase.value for phase in Phase]
_WITHOUT_PLUGINS: Final = frozenset({"upstream", "upstreams", "ssls", "protos", "secrets", "stream_routes", "plugin_metadata"})
_ADC_KEYS: Final = frozenset({"services", "ssls", "consumers", "consumer_groups", "global_rules", "plugin_metadata"})
_ENVELOPE_KEYS: Final = frozenset({"list", "node", "value", "key", "action", "total"})
"""Of responses of the admin API. The others of an object of APISIX are the names of the lists, and the fields of one definition."""
_KNOWN_KEYS: Final = frozenset(
    {*LISTS, *_ADC_KEYS, *_WITHOUT_PLUGINS, *_ENVELOPE_KEYS, *ROUTE_FIELDS, *SERVICE_FIELDS, *UPSTREAM_FIELDS, *CONSUMER_FIELDS, *_PHASES}
)
_MAX_KEYS_SHOWN: Final = 5
_REFERENCES: Final = {"plugin_config_id": "plugin_config", "service_id": "service", "group_id": "consumer_group"}


@dataclass(slots=True)
class Search:
    """
    The configurations and problems in one or more files.

    Attributes:
        registry: the runner's plugins. Their names are recognized in wrong places.
        confs: the configurations.
        problems: the problems.
        skipped: the documents that were not searched, because they are of another kind.
    """

    registry: Registry
    confs: list[FoundConf] = field(default_factory=list)
    problems: list[RouteProblem] = field(default_factory=list)
    skipped: list[SkippedDocument] = field(default_factory=list)
    _phases_of: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _references: list[tuple[str, set[str], str, str]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    _notes: list[str] = field(default_factory=list)
    _file: str = ""
    _is_adc: bool = False

    def add(self, document: Any, file: str, *, is_stand_alone: bool = False) -> None:
        """
        Search one document.

        Args:
            document: the content of a file, or of a response of the admin API.
            file: the path of the file, or the URL.
            is_stand_alone: True if it is a file for APISIX's stand-alone mode.
        """
        self._file = file
        self._seen.clear()
        self._is_adc = False
        items = document if isinstance(document, list) else [document]
        if any(map(is_manifest, items)):
            for item in items:
                self._add_item(item)
            return
        if reason := _reason_to_skip(document):
            self._skip(document, "", reason)
        self._is_adc = not is_stand_alone and isinstance(document, dict) and document.keys() <= _ADC_KEYS
        self._search(document, "")

    def notes(self) -> Iterator[str]:
        """Yield notes about plugins that a route uses but that were not checked, and about plugins that APISIX does not run."""
        yield from self._notes
        for holder, phases, kind, id in self._references:
            others = self._phases_of.get((kind, id))
            if others is None:
                yield f"{holder} uses {kind} {id}, which is in none of the files: plugins that it adds were not checked"
                continue
            for phase in sorted(phases & others):
                yield f"{holder} and its {kind} {id} both have {phase}: APISIX runs only that of {holder}"

    def _add_problem(self, line: int, holder: str, phase: str, reason: str) -> None:
        self.problems.append(RouteProblem(self._file, line, holder, phase, reason))

    def _add_item(self, item: Any) -> None:
        """Search a manifest, or another item of a list that contains manifests."""
        if is_manifest(item):
            for manifest in read_manifests(item, self._file):
                self._add_manifest(manifest)
        else:
            self._skip(item, "", "it is not a manifest, although others in this list are")

    def _skip(self, document: Any, name: str, reason: str) -> None:
        text = str(document)
        phase = next((phase for phase in _PHASES if phase in text), "")
        self.skipped.append(SkippedDocument(self._file, getattr(document, "line", 0), name, reason, phase))

    def _add_manifest(self, manifest: Manifest) -> None:
        if manifest.skipped:
            self._skip(manifest.document, str(manifest), manifest.skipped)
        self.problems += manifest.problems
        self._notes += manifest.notes
        for each in manifest.lists:
            self._search_plugins(each.plugins, each.holder, manifest.kind if each.takes_ext_plugins else "stream_routes")
            phases = {name for name in each.plugins if name in _PHASES}
            self._phases_of.setdefault((manifest.kind, manifest.name), set()).update(phases)
            if each.plugin_config is not None:
                self._references.append((each.holder, phases, "ApisixPluginConfig", each.plugin_config))

    def _search(self, value: Any, section: str, parent: str = "") -> None:
        if not isinstance(value, (dict, list)) or id(value) in self._seen:
            return
        self._seen.add(id(value))  # an alias of YAML leads to the same object twice
        if isinstance(value, list):
            for item in value:
                self._search(item, section, parent)
            return
        holder = f"{parent}{_holder(value, section)}"
        for key, line in getattr(value, "repeated", ()):
            self._add_problem(line, holder, "", f"the key {key} is here twice, and only the last one counts")
        if isinstance(value.get("checks"), dict) and "upstream" in section:
            self._notes.append(
                f"{self._file}{f', line {line}' if (line := line_of(value, 'checks')) else ''}: {holder}: {NO_HEALTH_CHECKS}"
            )
        plugins = value.get("plugins")
        self._note_references(value, section, plugins if isinstance(plugins, dict) else {})
        for key, item in value.items():
            if key == "plugins" and isinstance(item, dict):
                self._search_plugins(item, holder, section)
                continue
            if key == "global_rules" and isinstance(item, dict):  # a mapping of plugins, as adc writes it
                self._search_plugins(item, "global_rule", "global_rules")
                continue
            if key == "plugins" and section and isinstance(item, list) and any(phase in str(item) for phase in _PHASES):
                self._add_problem(line_of(value, key), holder, "", "plugins is a list here and was not checked; in APISIX it is a mapping")
                continue
            if key in _PHASES:
                reason = "this is not inside plugins, so APISIX does not run it; move it there"
                self._add_problem(line_of(value, key), holder, str(key), reason)
            # In responses of the admin API, the section is part of the key next to the value.
            inner = str(value.get("key", section)).split("/")[-2:][0] if key == "value" else str(key)
            self._search(item, inner, f"{holder}, " if key == "routes" and section else "")

    def _search_plugins(self, plugins: dict[Any, Any], holder: str, section: str) -> None:
        if id(plugins) in self._seen:
            return
        self._seen.add(id(plugins))
        for key, line in getattr(plugins, "repeated", ()):
            self._add_problem(line, holder, str(key), "this plugin is here twice, and only the last one counts")
        for name, content in plugins.items():
            line = line_of(plugins, name)
            if name not in _PHASES:
                if reason := self._reason_against(str(name)):
                    self._add_problem(line, holder, str(name), reason)
                self._search(content, section)
            elif section in _WITHOUT_PLUGINS:
                reason = f"APISIX runs no ext-plugin in {section}; name it in a route, service, plugin_config, consumer or global rule"
                self._add_problem(line, holder, str(name), reason)
            else:
                self.confs.append(FoundConf(self._file, getattr(content, "line", 0) or line, holder, Phase(name), content, self._is_adc))

    def _reason_against(self, name: str) -> str | None:
        """Return why a name in `plugins` that was probably meant for the runner is wrong, or None."""
        if name in KNOWN_PLUGINS:
            return None
        if self.registry.get(name) is not None:
            return "this is a plugin of the runner, which APISIX does not accept here; name it in the conf of an ext-plugin"
        if name.startswith(("ext-plugin", "ext_plugin", "extplugin")):
            near = difflib.get_close_matches(name, _PHASES, n=1)
            return "APISIX has no plugin of this name" + (f"; did you mean {near[0]}?" if near else f"; it has {', '.join(_PHASES)}")
        return None

    def _note_references(self, value: dict[Any, Any], section: str, plugins: dict[Any, Any]) -> None:
        """Record which other objects a route or consumer takes plugins from, and which phases each object has."""
        phases = {name for name in plugins if name in _PHASES}
        if "id" in value:
            self._phases_of.setdefault((section.removesuffix("s"), str(value["id"])), set()).update(phases)
        # adc's routes are part of their service.
        for route in value["routes"] if section == "services" and isinstance(value.get("routes"), list) else ():
            own = route.get("plugins") if isinstance(route, dict) else None
            for phase in sorted(phases & own.keys()) if isinstance(own, dict) else ():
                self._notes.append(
                    f"{_holder(route, 'routes')} and its {_holder(value, section)} both have {phase}: APISIX runs only that of the route"
                )
        if section.removesuffix("s") in ("", "route", "value", "list", "consumer"):
            for key, kind in _REFERENCES.items():
                if isinstance(value.get(key), (str, int)):
                    self._references.append((_holder(value, section), phases, kind, str(value[key])))


def _reason_to_skip(document: Any) -> str | None:
    """Return why a document can't contain objects of APISIX, or None."""
    if not isinstance(document, (dict, list)):
        kind = "string" if isinstance(document, str) else type(document).__name__
        return f"it is a {kind}, but a mapping or a list was expected"
    keys = [str(key) for item in (document if isinstance(document, list) else [document]) if isinstance(item, dict) for key in item]
    if not keys or not _KNOWN_KEYS.isdisjoint(keys):
        return None
    shown = ", ".join(dict.fromkeys(keys[:_MAX_KEYS_SHOWN])) + (", ..." if len(keys) > _MAX_KEYS_SHOWN else "")
    return f"it is neither a manifest nor an object of APISIX, because it has only the keys {shown}"


def _holder(value: dict[Any, Any], section: str) -> str:
    """Return a name for the object that contains plugins, such as `route 1`."""
    kind = section.removesuffix("s") or "route"
    name = next((value[key] for key in ("id", "name", "username", "uri", "uris") if value.get(key)), None)
    return kind if name is None else f"{kind} {name}"
