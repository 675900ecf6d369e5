# SPDX-License-Identifier: Apache-2.0
"""
Read a configuration file in a simple form, such as the shipped one, without PyYAML.

Importing PyYAML would delay the start, and the supervisor and all workers would keep it in memory. A file in another form, or with a
mistake, is left to `file.py`. A test checks that both return the same if both can read a file.
"""

import re
from collections.abc import Collection
from pathlib import Path

from apisix.runner.settings.kinds import Given

_NOTHING = re.compile(r" *(#.*)?")
_SECTION = re.compile(r"([a-z_]+):")
# A scalar whose value is the text as it is written: without quotes, indicators and a final colon, and not null.
_PAIR = re.compile(r"  ([a-z_]+): (\[\]|(?!(?:null|Null|NULL)$)[A-Za-z0-9./$](?:[A-Za-z0-9_./$@%+:-]*[A-Za-z0-9_./$@%+-])?)")


def read_plain(path: Path, keys: Collection[str]) -> dict[str, Given] | None:
    """
    Read a configuration file of sections with lines `name: value`, indented by two spaces, whose value is a plain scalar or `[]`.

    Args:
        path: the file.
        keys: all keys that are allowed, as `section.name`.
    Returns: the given texts by key, as from `file.read_file`, or None if the file has another form or a mistake.
    """
    try:
        text = path.read_bytes().decode()  # without translating line ends
    except (OSError, UnicodeError):
        return None
    base = str(path.absolute().parent)
    known_sections = {key.partition(".")[0] for key in keys}
    given: dict[str, Given] = {}
    sections: set[str] = set()
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.isprintable():  # a tab, or a line break in YAML that split() does not recognize
            return None
        if _NOTHING.fullmatch(line):
            continue
        if found := _SECTION.fullmatch(line):
            section = found[1]
            if section in sections or section not in known_sections:
                return None
            sections.add(section)
        elif (found := _PAIR.fullmatch(line)) and (key := f"{section}.{found[1]}") in keys and key not in given:
            given[key] = Given(() if found[2] == "[]" else found[2], f"{path}, line {number}", base)
        else:
            return None
    return given
