# SPDX-License-Identifier: Apache-2.0
"""
Read the plugins of Kubernetes manifests, which the ingress controller translates for APISIX.

In a manifest, `plugins` is a list of entries with `name`, `enable` and `config`. In APISIX it is a mapping of names to configurations.
Source: the custom resource definitions of apisix-ingress-controller, versions v2 and v1alpha1.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from apisix.cli.routes.files import Lined, line_of
from apisix.cli.routes.found import RouteProblem
from apisix.runner.http.phase import Phase

GROUP: Final = "apisix.apache.org/"
KINDS: Final = frozenset(
    {"ApisixRoute", "ApisixPluginConfig", "ApisixGlobalRule", "ApisixConsumer", "PluginConfig", "Consumer", "GatewayProxy"}
)
"""The kinds whose plugins APISIX runs for HTTP requests."""
OTHER_KINDS: Final = frozenset(
    {"ApisixUpstream", "ApisixTls", "ApisixClusterConfig", "BackendTrafficPolicy", "HTTPRoutePolicy", "L4RoutePolicy"}
)
"""The kinds whose plugins, if they have any, are not for HTTP requests."""
_PHASES: Final = tuple(phase.value for phase in Phase)
_ENTRY_KEYS: Final = ("name", "enable", "config", "secretRef")


@dataclass(frozen=True, slots=True)
class PluginList:
    """
    The plugins of one object, in the form of APISIX.

    Attributes:
        holder: the object that contains them, such as `ApisixRoute default/web, rule api`.
        plugins: configurations by the name of the plugin.
        takes_ext_plugins: False for TCP and UDP routes.
        plugin_config: the ApisixPluginConfig that the object also uses, as `namespace/name`, or None.
    """

    holder: str
    plugins: Lined
    takes_ext_plugins: bool
    plugin_config: str | None


@dataclass(slots=True)
class Manifest:
    """
    The contents of one manifest.

    Attributes:
        file: the path of the file, or the URL.
        kind: its kind.
        name: `namespace/name`, or only the name.
        lists: its lists of plugins.
        problems: parts that look like a configuration of the runner, but that APISIX does not run.
        notes: parts that were not checked.
        document: the manifest itself.
        skipped: why check does not read this kind, or "" if it reads it.
    """

    file: str
    kind: str
    name: str
    lists: list[PluginList] = field(default_factory=list)
    problems: list[RouteProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    document: Mapping[Any, Any] = field(default_factory=dict)
    skipped: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def add_problem(self, line: int, holder: str, phase: str, reason: str) -> None:
        """Add a problem of this manifest."""
        self.problems.append(RouteProblem(self.file, line, holder, phase, reason))


def is_manifest(document: object) -> bool:
    """Return True if this is the content of a Kubernetes manifest, of any kind."""
    return isinstance(document, dict) and isinstance(document.get("apiVersion"), str) and isinstance(document.get("kind"), str)


def read_manifests(document: Mapping[Any, Any], file: str) -> Iterator[Manifest]:
    """Read a manifest, or each object of a list as `kubectl get -o yaml` prints it. `file` is its path."""
    items = document.get("items")
    if document["kind"].endswith("List") and isinstance(items, list):
        for item in items:
            if isinstance(item, dict):
                # The API of Kubernetes leaves these two out of the items of a list of one kind.
                of_list = {"apiVersion": document["apiVersion"], "kind": document["kind"].removesuffix("List")}
                yield from read_manifests(item if is_manifest(item) else {**of_list, **item}, file)
        return
    metadata = document["metadata"] if isinstance(document.get("metadata"), dict) else {}
    name = "/".join(str(metadata[key]) for key in ("namespace", "name") if metadata.get(key))
    manifest = Manifest(file, document["kind"], name or "without a name", document=document)
    if not document["apiVersion"].startswith(GROUP):
        manifest.skipped = f"check does not read a {manifest.kind}"
    elif manifest.kind in KINDS | OTHER_KINDS:
        _read(document.get("spec"), manifest, str(manifest), takes_ext_plugins=manifest.kind in KINDS)
    else:
        manifest.skipped = f"check does not support the kind {manifest.kind} of {document['apiVersion']}"
    yield manifest


def _read(value: Any, manifest: Manifest, holder: str, *, takes_ext_plugins: bool) -> None:
    if isinstance(value, list):
        for item in value:
            _read(item, manifest, holder, takes_ext_plugins=takes_ext_plugins)
    elif isinstance(value, dict):
        for key, line in getattr(value, "repeated", ()):
            manifest.add_problem(line, holder, "", f"the key {key} is here twice, and only the last one counts")
        if isinstance(value.get("name"), str):
            holder = f"{holder}, rule {value['name']}"
        for key, item in value.items():
            if key == "plugins":
                _read_list(value, manifest, holder, takes_ext_plugins=takes_ext_plugins)
            elif key in _PHASES:
                reason = "this is not in the list of plugins, so APISIX does not run it; move it there, as name and config"
                manifest.add_problem(line_of(value, key), holder, str(key), reason)
            else:
                _read(item, manifest, holder, takes_ext_plugins=takes_ext_plugins and key != "stream")


def _read_list(value: dict[Any, Any], manifest: Manifest, holder: str, *, takes_ext_plugins: bool) -> None:
    """Read the list of plugins of an object."""
    entries = value["plugins"]
    if not isinstance(entries, list):
        if any(phase in str(entries) for phase in _PHASES):
            reason = "in a manifest, plugins must be a list of entries with name, enable and config; this one was not checked"
            manifest.add_problem(line_of(value, "plugins"), holder, "", reason)
        return
    plugins = Lined()
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            _read_entry(entry, entry["name"], plugins, manifest, holder)
        elif any(phase in str(entry) for phase in _PHASES):
            line = getattr(entry, "line", 0) or line_of(value, "plugins")
            reason = "each entry of plugins must have a name and a config; this one was not checked"
            manifest.add_problem(line, holder, "", reason)
    plugin_config = value.get("plugin_config_name")
    if isinstance(plugin_config, str) and plugin_config:
        default = manifest.name.rpartition("/")[0]
        plugin_config = "/".join(filter(None, (str(value.get("plugin_config_namespace") or default), plugin_config)))
    manifest.lists.append(PluginList(holder, plugins, takes_ext_plugins, plugin_config or None))


def _read_entry(entry: dict[Any, Any], name: str, plugins: Lined, manifest: Manifest, holder: str) -> None:
    line = getattr(entry, "line", 0)
    config = entry.get("config")
    if name in plugins:
        plugins.repeated.append((name, line))
    plugins[name], plugins.lines[name] = {} if config is None else config, line_of(entry, "config") if "config" in entry else line
    if name not in _PHASES:
        return
    known = (*_ENTRY_KEYS, "enabled") if manifest.kind == "GatewayProxy" else _ENTRY_KEYS
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            manifest.add_problem(line_of(entry, key), holder, name, f"Kubernetes drops the key {key}; {advice}")
    # The default of `enabled`, which only a GatewayProxy has, is false.
    enabled = entry.get("enabled", False) if manifest.kind == "GatewayProxy" else entry.get("enable", True)
    if enabled is not True:
        manifest.notes.append(f"{holder}: {name} is not enabled, so APISIX does not run it")
    if entry.get("secretRef"):
        manifest.notes.append(f"{holder}: {name} takes values from the secret {entry['secretRef']}, which were not checked")
