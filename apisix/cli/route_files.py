# SPDX-License-Identifier: Apache-2.0
"""
Find the runner's plugins in files of routes.

A file is whatever holds routes: APISIX's stand-alone `apisix.yaml`, one route as it is put to the admin API, or a dump
of what that answers. So nothing is asked of a file's form: wherever `plugins` names one of the three phases, in a
route, a service, a plugin_config or a global rule, that is a configuration.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apisix.runner.http.phase import Phase


class UnreadableRoutes(Exception):
    """A file of routes can't be read, or is neither YAML nor JSON."""


@dataclass(frozen=True, slots=True)
class FoundConf:
    """
    What stands under a phase.

    Attributes:
        line: where it begins, 0 where that is not known, as in JSON.
        holder: what holds it, as `route 1`.
        phase: the phase that it stands under.
        content: what stands there, whatever that is.
    """

    line: int
    holder: str
    phase: Phase
    content: Any


class _Lined(dict[Any, Any]):
    """A mapping that knows its line."""

    line = 0


class _Loader(yaml.SafeLoader):
    """Loads mappings with their lines."""


def _construct(loader: _Loader, node: yaml.MappingNode) -> _Lined:
    mapping = _Lined(loader.construct_mapping(node, deep=True))
    mapping.line = node.start_mark.line + 1
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _construct)


def find_confs(path: Path) -> Iterator[FoundConf]:
    """
    Find all configurations of a file.

    Raises: UnreadableRoutes: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        raise UnreadableRoutes(f"{path} can't be read: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UnreadableRoutes(f"{path}{line}: this is no YAML: {error.problem}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UnreadableRoutes(f"{path}: this is neither YAML nor JSON: {error}") from error
    yield from _search(document, "", set())


def _search(value: Any, section: str, seen: set[int]) -> Iterator[FoundConf]:
    if not isinstance(value, (dict, list)) or id(value) in seen:
        return
    seen.add(id(value))  # an alias of YAML leads to the same place twice
    if isinstance(value, list):
        for item in value:
            yield from _search(item, section, seen)
        return
    plugins = value.get("plugins")
    if isinstance(plugins, dict):
        for phase in Phase:
            if phase in plugins:
                content = plugins[phase]
                line = getattr(content, "line", 0) or getattr(plugins, "line", 0)
                yield FoundConf(line, _holder(value, section), phase, content)
    for key, item in value.items():
        # In what the admin API answers, the section stands in the key beside the value.
        inner = str(value.get("key", section)).split("/")[-2:][0] if key == "value" else str(key)
        yield from _search(item, inner, seen)


def _holder(value: dict[Any, Any], section: str) -> str:
    """Name what holds plugins, as people speak of it."""
    kind = section.removesuffix("s") or "route"
    name = next((value[key] for key in ("id", "name", "uri", "uris") if value.get(key)), None)
    return kind if name is None else f"{kind} {name}"
