# SPDX-License-Identifier: Apache-2.0
"""
A configuration file that is as plain as the one we ship, read without PyYAML.

Importing that and composing the shipped file cost a quarter of all that happens before the socket accepts (91 of 371 million
instructions), and the supervisor and its workers would hold it for good. Whatever is not plain, and each mistake, is left to
`file.py`; a test holds that the two agree on what both read.
"""

import re
from collections.abc import Collection
from pathlib import Path

from apisix.runner.settings.kinds import Given

_NOTHING = re.compile(r" *(#.*)?")
_SECTION = re.compile(r"([a-z_]+):")
# A scalar that means itself in YAML too: no quotes, no mark that it knows, no colon at the end, and no null.
_PAIR = re.compile(r"  ([a-z_]+): (\[\]|(?!(?:null|Null|NULL)$)[A-Za-z0-9./$](?:[A-Za-z0-9_./$@%+:-]*[A-Za-z0-9_./$@%+-])?)")


def read_plain(path: Path, keys: Collection[str]) -> dict[str, Given] | None:
    """
    Read a configuration file of sections and, indented by two, `name: value` with a plain value or `[]`.

    Args: path: the file. keys: all that it may hold, as `section.name`.
    Returns: what it gives, by key, as `file.read_file` does; None where that has to look at it.
    """
    try:
        text = path.read_bytes().decode()  # and no line ends translated
    except (OSError, UnicodeError):
        return None
    base = str(path.absolute().parent)
    known_sections = {key.partition(".")[0] for key in keys}
    given: dict[str, Given] = {}
    sections: set[str] = set()
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.isprintable():  # a tab, or a line break that YAML knows and split() does not
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
