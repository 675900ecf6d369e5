# SPDX-License-Identifier: Apache-2.0
"""Mutants that change nothing which a test could notice, with the reason: `equivalent.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "equivalent.toml"
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Equivalents:
    """The reasons, by the module's path, the line before and the line after."""

    reasons: Mapping[Key, str]

    @classmethod
    def load(cls, file: Path = FILE) -> "Equivalents":
        """Read the list."""
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("mutant", [])
        return cls({(entry["module"], entry["before"].strip(), entry["after"].strip()): entry["reason"] for entry in entries})

    def reason(self, diff: str) -> str | None:
        """Return why the mutant with this diff is equivalent, None if it is not listed."""
        return self.reasons.get(key_of(diff))


def key_of(diff: str) -> Key:
    """Return the module, the first line removed and the first line added in a diff."""
    module = before = after = ""
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            module = line.removeprefix("+++ b/")
        elif line.startswith("-") and not line.startswith("---") and not before:
            before = line[1:].strip()
        elif line.startswith("+") and not line.startswith("+++") and not after:
            after = line[1:].strip()
    return module, before, after
