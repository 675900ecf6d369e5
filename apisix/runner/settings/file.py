# SPDX-License-Identifier: Apache-2.0
"""
Read the configuration file as YAML, and return texts with their line numbers.

PyYAML parses the file to nodes, but does not construct values from them. So tags in the file have no effect, `0660` keeps its form, and
error messages can contain the line of a value.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from apisix.runner.errors import SettingsError
from apisix.runner.settings.kinds import Given


def read_file(path: Path, keys: Collection[str]) -> dict[str, Given]:
    """
    Read a configuration file.

    Args:
        path: the file.
        keys: all keys that are allowed, as `section.name`.
    Returns: the given texts, by key. Values that are null in the file are omitted.
    Raises: SettingsError: the file can't be read, is not YAML, or contains an unknown key or the same key twice.
    """
    root = _compose(path)
    if root is None or _is_null(root):
        return {}
    base = str(path.absolute().parent)
    given: dict[str, Given] = {}
    nested = _nested(keys)
    for section, node in _items(path, root, "", nested):
        if section.value not in nested:
            raise _unknown(path, section, section.value, keys)
        if _is_null(node):
            continue
        for name, value in _items(path, node, f"{section.value}.", nested):
            key = f"{section.value}.{name.value}"
            if key not in keys:
                raise _unknown(path, name, key, keys)
            text = _text(path, value, key)
            if text is not None:
                given[key] = Given(text, _where(path, value), base)
    return given


def _compose(path: Path) -> Node | None:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root: Node | None = yaml.compose(path.read_bytes(), Loader=loader)
    except OSError as error:
        raise SettingsError(f"the configuration file {path} can't be read: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        raise SettingsError(f"{path}{line}: this is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise SettingsError(f"{path}: this is not YAML: {str(error).splitlines()[0]}") from error
    return root


def _items(path: Path, node: Node, prefix: str, nested: Mapping[str, str]) -> list[tuple[ScalarNode, Node]]:
    """Return the keys and values of a mapping node. Raise SettingsError if it is not a mapping or contains a key twice."""
    if not isinstance(node, MappingNode):
        section = prefix.removesuffix(".")
        expected = f"{section} must be a mapping with the keys {nested.get(section)}" if section else "this must be a mapping of sections"
        raise SettingsError(f"{_where(path, node)}: {expected}, not a {_kind(node)}")
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise SettingsError(f"{_where(path, key)}: a key must be a name, not a {_kind(key)}")
        if key.value in seen:
            raise SettingsError(f"{_where(path, key)}: {prefix}{key.value} is given here a second time; keep one of the two")
        seen.add(key.value)
    return list(node.value)


def _text(path: Path, node: Node, key: str) -> str | tuple[str, ...] | None:
    if _is_null(node):
        return None
    if isinstance(node, ScalarNode):
        return str(node.value)
    if isinstance(node, SequenceNode) and all(isinstance(item, ScalarNode) and not _is_null(item) for item in node.value):
        return tuple(item.value for item in node.value)
    raise SettingsError(f"{_where(path, node)}: {key} must be a value or a list of values, not a {_kind(node)}")


def _unknown(path: Path, node: Node, key: str, keys: Collection[str]) -> SettingsError:
    """Return the error for an unknown key. Its message contains the most similar key or, if there is none, all keys."""
    nested = _nested(keys)
    section, _, name = key.rpartition(".")
    moved = [known for known in keys if known.rpartition(".")[2] == name]
    siblings = [f"{section}.{known}" for known in nested[section].split(", ")] if section else list(nested)
    near = moved or get_close_matches(key, siblings, n=1, cutoff=0.75)
    advice = f"did you mean {near[0]}?" if near else f"the {'settings' if section else 'sections'} are {', '.join(siblings)}"
    return SettingsError(f"{_where(path, node)}: there is no setting {key}; {advice}")


def _nested(keys: Collection[str]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for key in keys:
        section, _, name = key.partition(".")
        names.setdefault(section, []).append(name)
    return {section: ", ".join(items) for section, items in names.items()}


def _is_null(node: Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _kind(node: Node) -> str:
    names: tuple[tuple[type[Node], str], ...] = ((ScalarNode, "value"), (SequenceNode, "list"))
    return next((name for kind, name in names if isinstance(node, kind)), "mapping")


def _where(path: Path, node: Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"
