# SPDX-License-Identifier: Apache-2.0
"""Load apisix.yaml, the routes of a gateway in stand-alone mode, as APISIX does."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from apisix.gateway.resources.definitions import Definition, Problem, Record
from apisix.gateway.resources.kinds import KINDS
from apisix.gateway.resources.store import Store

# Further keys that APISIX reads. Source: its documentation of the stand-alone mode.
_OTHER_KINDS = frozenset({"plugins", "stream_routes"})


class _Dumper(yaml.SafeDumper):
    """Writes shared objects in full, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True."""
        return True


def _definition(record: Record) -> Definition:
    """Return what a file contains of a definition."""
    value = {name: field for name, field in record.value.items() if name not in ("create_time", "update_time")}
    if record.kind == "credentials":
        value["id"] = record.id.replace("/", "/credentials/")
    return value


class RoutesFile:
    """One apisix.yaml, loaded again when it changes."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self._store = store
        self._version = 0

    def load(self) -> bool:
        """
        Load the file into the store, and return whether it was accepted.

        As in APISIX, a file without `#END` at its end, or a file that is not YAML, is ignored and the current routes are kept.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
            modified = int(self.path.stat().st_mtime)
        except OSError as error:
            return self._refuse(f"can't be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            return self._refuse(f"line {line}: this is not UTF-8")
        if not text.rstrip().endswith("#END"):
            return self._refuse("does not end with the line #END: APISIX ignores such a file, because it may be incomplete")
        try:
            content = yaml.safe_load(text) or {}
        except yaml.MarkedYAMLError as error:
            where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            return self._refuse(f"{where}this is not YAML: {error.problem}")
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # for example an invalid date, or a thousand brackets
            return self._refuse(f"is not YAML: {' '.join(str(error).split())}")
        if not isinstance(content, dict):
            return self._refuse("does not contain a mapping at its top level")
        # APISIX uses the file's time. Here, two changes within one second must get different versions.
        self._version = max(modified, self._version + 1)
        problems: list[Problem] = []
        self._store.replace_file(self._definitions(content, problems), str(self._version), problems)
        return True

    def write(self) -> None:
        """
        Write all definitions, including those of the admin API, to the file. The previous file is kept with the suffix `.bak`.

        Keys that the development gateway does not support are kept. Comments are lost. From then on, the definitions are those of the file.

        Raises:
            ValueError: the current file can't be loaded, so a change that somebody is making in it would be lost.
            OSError: the file can't be written.
        """
        content: dict[str, Any] = {}
        if self.path.exists():
            if not self.load():
                raise ValueError(f"{self.path} can't be loaded: correct it first, so that nothing in it is lost")
            content = yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
        for kind in KINDS:
            kept = content.get(kind) or []
            if not isinstance(kept, list) or not all(isinstance(entry, dict) for entry in kept):
                raise ValueError(f"{kind} in {self.path} must be a list of mappings: correct it first, so that nothing in it is lost")
            definitions = [_definition(record) for record in self._store.records(kind).values()]
            if not KINDS[kind].has_effect:  # those of the file are not in the store
                given = {str(definition["id"]) for definition in definitions}
                definitions = [*(entry for entry in kept if str(entry.get("id")) not in given), *definitions]
            content[kind] = definitions
        # In a file, the credentials of consumers are listed with the consumers.
        content["consumers"] += content.pop("credentials")
        content = {kind: entries for kind, entries in content.items() if entries or kind not in KINDS}
        text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text(f"{text}#END\n", encoding="utf-8")
        if self.path.exists():
            shutil.copymode(self.path, fresh)
            shutil.copy2(self.path, self.path.with_name(f"{self.path.name}.bak"))
        fresh.replace(self.path)
        self._store.forget_changes()
        self.load()

    def _definitions(self, content: dict[str, Any], problems: list[Problem]) -> dict[str, list[dict[str, Any]]]:
        definitions: dict[str, list[dict[str, Any]]] = {}
        for kind, entries in content.items():
            if kind in _OTHER_KINDS or (kind in KINDS and not KINDS[kind].has_effect):
                problems.append(Problem(self.path.name, f"{kind} are not supported by the development gateway and have no effect"))
            elif kind not in KINDS:
                expected = ", ".join(sorted(KINDS))
                problems.append(Problem(self.path.name, f"{kind!r} is not a key that APISIX supports; expected one of {expected}"))
            elif not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                problems.append(Problem(self.path.name, f"{kind} must be a list of mappings"))
            else:
                definitions[kind] = entries
        return definitions

    def _refuse(self, reason: str) -> bool:
        self._store.report([Problem(str(self.path), f"{reason}; the current routes are kept")])
        return False
