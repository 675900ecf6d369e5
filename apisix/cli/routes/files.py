# SPDX-License-Identifier: Apache-2.0
"""
Read files of routes, as YAML or JSON: APISIX's stand-alone `apisix.yaml`, objects of the admin API, files for adc, and manifests.

Mappings keep their line numbers, so that a problem can name its line.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

END = "#END"
_STAND_ALONE = ("routes", "upstreams", "global_rules", "plugin_configs")
"""Lists that only a stand-alone file has at its top level."""
_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_JSON_WITH_LINES = 256 * 1024
"""In bytes. JSON is read as YAML to get its lines, which takes too long for larger files."""


class UnreadableRoutes(Exception):
    """
    Raised if routes can't be read.

    Args:
        source: the path of the file, or the URL.
        reason: the reason, as a phrase that can follow the source and a colon.
        line: the line, or 0 if it is not known.
    """

    def __init__(self, source: object, reason: str, line: int = 0) -> None:
        super().__init__(source, reason, line)
        self.source = str(source)
        self.reason = reason
        self.line = line

    def __str__(self) -> str:
        return f"{self.source}{f', line {self.line}' if self.line else ''}: {self.reason}"


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
    """A SafeLoader that keeps the line numbers of mappings."""


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


@dataclass(frozen=True, slots=True)
class Source:
    """
    The documents of a file, or of a list of the admin API.

    Attributes:
        name: the path of the file, or the URL.
        documents: the content. A YAML file can contain several documents.
        is_stand_alone: True if it is a file for APISIX's stand-alone mode.
        is_ignored: True if it is such a file, but APISIX ignores it because it does not end with `#END`.
    """

    name: str
    documents: list[Any]
    is_stand_alone: bool = False
    is_ignored: bool = False


def line_of(mapping: dict[Any, Any], key: object) -> int:
    """Return the line of a key, or 0 if it is not known."""
    return mapping.lines.get(key, mapping.line) if isinstance(mapping, Lined) else 0


def files_in(directory: Path) -> list[Path]:
    """
    Return the YAML and JSON files in a directory and its subdirectories, sorted. Hidden ones are left out, and links to directories too.

    Raises: UnreadableRoutes: the directory can't be read.
    """

    def fail(error: OSError) -> None:
        raise UnreadableRoutes(error.filename, f"can't be read: {error.strerror or error}") from error

    found = []
    for parent, directories, names in os.walk(directory, onerror=fail):
        directories[:] = [name for name in directories if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def read_routes(path: Path) -> Source:
    """
    Read a file of routes.

    Raises: UnreadableRoutes: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return Source(str(path), [_json(text)])
        documents = list(_yaml(text))
    except OSError as error:
        raise UnreadableRoutes(path, f"can't be read: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise UnreadableRoutes(path, f"this is not YAML: {error.problem}", line) from error
    except json.JSONDecodeError as error:
        raise UnreadableRoutes(path, f"this is not JSON: {error.msg}", error.lineno) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UnreadableRoutes(path, f"this is neither YAML nor JSON: {error}") from error
    has_end = text.rstrip().endswith(END)
    is_stand_alone = (
        path.name == "apisix.yaml"
        or has_end
        or any(
            isinstance(document, dict) and any(isinstance(document.get(section), list) for section in _STAND_ALONE)
            for document in documents
        )
    )
    return Source(str(path), documents, is_stand_alone, is_stand_alone and not has_end)


def _yaml(text: str) -> Iterator[Any]:
    return (document for document in yaml.load_all(text, Loader=_Loader) if document is not None)  # a SafeLoader


def _json(text: str) -> Any:
    """Return the content of a JSON text, with line numbers if possible. They are not useful if the text has only one line."""
    value = json.loads(text)
    if "\n" not in text.strip() or len(text) > _MAX_JSON_WITH_LINES:
        return value
    try:
        (with_lines,) = _yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return value
    # YAML reads some JSON differently, such as escaped characters outside the basic multilingual plane.
    return with_lines if with_lines == value else value
