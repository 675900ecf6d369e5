# SPDX-License-Identifier: Apache-2.0
"""
Read a file of routes: APISIX's stand-alone `apisix.yaml`, a route as it is sent to the admin API, or a response of the admin API.

Mappings of a YAML file have line numbers, which problems contain.
"""

import json
from pathlib import Path
from typing import Any

import yaml

END = "#END"
_STAND_ALONE = ("routes", "upstreams", "global_rules", "plugin_configs")
"""Lists that only a stand-alone file has at its top level."""


class UnreadableRoutes(Exception):
    """Raised if a file of routes can't be read, or is neither YAML nor JSON."""


class Lined(dict[Any, Any]):
    """
    A mapping of a YAML file.

    Attributes:
        line: its first line, or 0 if it is not known, as in JSON.
        lines: the line of each key.
        repeated: the keys that occur more than once, each with the line of the later one.
    """

    line = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lines: dict[Any, int] = {}
        self.repeated: list[tuple[Any, int]] = []


class _Loader(yaml.SafeLoader):
    """Loads mappings with their line numbers."""


def _construct(loader: _Loader, node: yaml.MappingNode) -> Lined:
    written = [(key, key.start_mark.line + 1) for key, _ in node.value]
    mapping = Lined(loader.construct_mapping(node, deep=True))
    mapping.line = node.start_mark.line + 1
    for key_node, line in written:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node)
        if key in mapping.lines:
            mapping.repeated.append((key, line))
        mapping.lines[key] = line
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _construct)


def read_routes(path: Path) -> tuple[Any, bool]:
    """
    Read a file of routes.

    Returns: its content, and True if APISIX ignores it because it is a stand-alone file that does not end with `#END`.
    Raises: UnreadableRoutes: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text), False
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        raise UnreadableRoutes(f"{path} can't be read: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UnreadableRoutes(f"{path}{line}: this is not YAML: {error.problem}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UnreadableRoutes(f"{path}: this is neither YAML nor JSON: {error}") from error
    is_stand_alone = path.name == "apisix.yaml" or (
        isinstance(document, dict) and any(isinstance(document.get(section), list) for section in _STAND_ALONE)
    )
    return document, is_stand_alone and not text.rstrip().endswith(END)
