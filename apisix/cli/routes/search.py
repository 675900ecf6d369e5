# SPDX-License-Identifier: Apache-2.0
"""
Find the runner's configurations in a file of routes, and mistakes that look like one.

The form of the file does not matter: wherever `plugins` contains one of the three phases, in a route, a service, a plugin_config, a
consumer or a global rule, there is a configuration. A phase anywhere else is a mistake, because APISIX ignores or refuses it there.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from apisix.cli.routes.files import Lined
from apisix.gateway.routing.known_plugins import KNOWN_PLUGINS
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.registry import Registry

_PHASES: Final = [phase.value for phase in Phase]
_WITHOUT_PLUGINS: Final = frozenset({"upstream", "upstreams", "ssls", "protos", "secrets", "stream_routes", "plugin_metadata"})
_REFERENCES: Final = {"plugin_config_id": "plugin_config", "service_id": "service", "group_id": "consumer_group"}


@dataclass(frozen=True, slots=True)
class FoundConf:
    """
    A configuration of the runner, under one of the phases.

    Attributes:
        line: its first line, or 0 if it is not known, as in JSON.
        holder: what contains it, such as `route 1`.
        phase: the phase.
        content: the value under the phase, of any type.
    """

    line: int
    holder: str
    phase: Phase
    content: Any


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Something that was meant for the runner, in a place where APISIX ignores it. The attributes are the same as of FoundConf."""

    line: int
    holder: str
    phase: str
    reason: str


@dataclass(slots=True)
class Search:
    """
    The configurations and mistakes in one or more files.

    Attributes:
        registry: the runner's plugins. Their names are recognized in wrong places.
        confs: the configurations.
        misplaced: the mistakes.
    """

    registry: Registry
    confs: list[FoundConf] = field(default_factory=list)
    misplaced: list[Misplaced] = field(default_factory=list)
    _phases_of: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _references: list[tuple[str, set[str], str, str]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def add(self, document: Any) -> None:
        """Search the content of a file."""
        self._seen.clear()
        self._search(document, "")

    def notes(self) -> Iterator[str]:
        """Yield notes about plugins that a route uses but were not checked, and about plugins that APISIX does not run."""
        for holder, phases, kind, id in self._references:
            others = self._phases_of.get((kind, id))
            if others is None:
                yield f"{holder} uses {kind} {id}, which is in none of the files: plugins that it adds were not checked"
                continue
            for phase in sorted(phases & others):
                yield f"{holder} and its {kind} {id} both have {phase}: APISIX runs only that of {holder}"

    def _search(self, value: Any, section: str) -> None:
        if not isinstance(value, (dict, list)) or id(value) in self._seen:
            return
        self._seen.add(id(value))  # an alias of YAML leads to the same object twice
        if isinstance(value, list):
            for item in value:
                self._search(item, section)
            return
        holder = _holder(value, section)
        for key, line in getattr(value, "repeated", ()):
            self.misplaced.append(Misplaced(line, holder, "", f"the key {key} is here twice, and only the last one counts"))
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
                self.misplaced.append(
                    Misplaced(_line(value, key), holder, "", "plugins is a list here and was not checked; in APISIX it is a mapping")
                )
                continue
            if key in _PHASES:
                reason = "this is not inside plugins, so APISIX does not run it; move it there"
                self.misplaced.append(Misplaced(_line(value, key), holder, str(key), reason))
            # In responses of the admin API, the section is part of the key next to the value.
            self._search(item, str(value.get("key", section)).split("/")[-2:][0] if key == "value" else str(key))

    def _search_plugins(self, plugins: dict[Any, Any], holder: str, section: str) -> None:
        if id(plugins) in self._seen:
            return
        self._seen.add(id(plugins))
        for key, line in getattr(plugins, "repeated", ()):
            self.misplaced.append(Misplaced(line, holder, str(key), "this plugin is here twice, and only the last one counts"))
        for name, content in plugins.items():
            line = _line(plugins, name)
            if name not in _PHASES:
                if reason := self._reason_against(str(name)):
                    self.misplaced.append(Misplaced(line, holder, str(name), reason))
                self._search(content, section)
            elif section in _WITHOUT_PLUGINS:
                reason = f"APISIX runs no ext-plugin in {section}; name it in a route, service, plugin_config, consumer or global rule"
                self.misplaced.append(Misplaced(line, holder, str(name), reason))
            else:
                self.confs.append(FoundConf(getattr(content, "line", 0) or line, holder, Phase(name), content))

    def _reason_against(self, name: str) -> str | None:
        """Return why a name in `plugins` is a mistake if it was meant for the runner, else None."""
        if name in KNOWN_PLUGINS:
            return None
        if self.registry.get(name) is not None:
            return "this is a plugin of the runner, which APISIX does not accept here; name it in the conf of an ext-plugin"
        if name.startswith(("ext-plugin", "ext_plugin", "extplugin")):
            near = difflib.get_close_matches(name, _PHASES, n=1)
            return "APISIX has no plugin of this name" + (f"; did you mean {near[0]}?" if near else f"; it has {', '.join(_PHASES)}")
        return None

    def _note_references(self, value: dict[Any, Any], section: str, plugins: dict[Any, Any]) -> None:
        """Note from where a route or consumer gets plugins, and which phases each object has."""
        phases = {name for name in plugins if name in _PHASES}
        if "id" in value:
            self._phases_of.setdefault((section.removesuffix("s"), str(value["id"])), set()).update(phases)
        if section.removesuffix("s") in ("", "route", "value", "list", "consumer"):
            for key, kind in _REFERENCES.items():
                if isinstance(value.get(key), (str, int)):
                    self._references.append((_holder(value, section), phases, kind, str(value[key])))


def _line(mapping: dict[Any, Any], key: object) -> int:
    return mapping.lines.get(key, mapping.line) if isinstance(mapping, Lined) else 0


def _holder(value: dict[Any, Any], section: str) -> str:
    """Return a name for the object that contains plugins, such as `route 1`."""
    kind = section.removesuffix("s") or "route"
    name = next((value[key] for key in ("id", "name", "username", "uri", "uris") if value.get(key)), None)
    return kind if name is None else f"{kind} {name}"
