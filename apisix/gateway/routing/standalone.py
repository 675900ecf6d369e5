# SPDX-License-Identifier: Apache-2.0
"""apisix.yaml: the routes of a gateway in stand-alone mode, read as APISIX reads them."""

from pathlib import Path
from typing import Any

import yaml

from apisix.gateway.routing.definitions import Problem
from apisix.gateway.routing.store import KINDS, Store

# APISIX reads these too. Source: its manual of the stand-alone mode.
_OTHER_KINDS = frozenset(
    {
        "services",
        "plugin_configs",
        "global_rules",
        "consumers",
        "consumer_groups",
        "credentials",
        "plugin_metadata",
        "plugins",
        "protos",
        "secrets",
        "ssls",
        "stream_routes",
    }
)


class RoutesFile:
    """One apisix.yaml, read again when it changes."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self._store = store
        self._version = 0

    def load(self) -> bool:
        """
        Read the file into the store, and say whether it was taken over.

        As in APISIX, a file without `#END` at its end, or one that is no YAML, changes nothing: the routes of before stay.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
            modified = int(self.path.stat().st_mtime)
        except OSError as error:
            return self._refuse(f"can't be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            return self._refuse(f"line {line}: this is no UTF-8")
        if not text.rstrip().endswith("#END"):
            return self._refuse("does not end with the line #END: APISIX ignores such a file, since it may be half written")
        try:
            content = yaml.safe_load(text) or {}
        except yaml.MarkedYAMLError as error:
            where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            return self._refuse(f"{where}this is no YAML: {error.problem}")
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, a thousand brackets
            return self._refuse(f"is no YAML: {' '.join(str(error).split())}")
        if not isinstance(content, dict):
            return self._refuse("holds no mapping at its top")
        # APISIX takes the file's time; two changes within one second must not share it.
        self._version = max(modified, self._version + 1)
        problems: list[Problem] = []
        self._store.replace_file(self._definitions(content, problems), str(self._version), problems)
        return True

    def _definitions(self, content: dict[str, Any], problems: list[Problem]) -> dict[str, list[dict[str, Any]]]:
        definitions: dict[str, list[dict[str, Any]]] = {}
        for kind, entries in content.items():
            if kind in _OTHER_KINDS:
                problems.append(Problem(self.path.name, f"{kind} are not supported by the development gateway and do nothing"))
            elif kind not in KINDS:
                problems.append(Problem(self.path.name, f"{kind!r} is nothing that APISIX knows; expected {' or '.join(KINDS)}"))
            elif not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                problems.append(Problem(self.path.name, f"{kind} has to be a list of mappings"))
            else:
                definitions[kind] = entries
        return definitions

    def _refuse(self, reason: str) -> bool:
        self._store.report([Problem(str(self.path), f"{reason}; the routes stay as they were")])
        return False
