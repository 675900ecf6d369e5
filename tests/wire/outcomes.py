# SPDX-License-Identifier: Apache-2.0
"""
Everything that can be read from a message, as text, to compare the compiled readers with the Python sources.

As a program, it reads messages from standard input, and writes a line with the outcomes of each one to standard output.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.entries import TextEntries, names
from apisix.runner.wire.messages import Message
from tests.wire.subjects import TABLES, content

KINDS = list(TABLES)
NAMES = ("host", "x", "", "content-type", "HOST", "x" * 70, "\udcff", "é")
EDITS: dict[str, tuple[str, str] | None] = {"host": None, "x": ("X", "1"), "accept": ("Accept", "b")}


def outcomes(kind: type[Message], payload: bytes) -> list[str]:
    """Read a message in every way, and return the outcome of each one: the value, or "malformed"."""
    return list(_outcomes(kind, payload))


def _outcomes(kind: type[Message], payload: bytes) -> Iterator[str]:
    # Each way decodes the message again, since a message keeps the values that were read from it.
    yield _outcome(lambda: content(kind.decode(payload)))
    for field in ("headers", "args", "resp_headers", "conf"):

        def entries(field: str = field) -> TextEntries:
            found = getattr(kind.decode(payload), field, None)
            return found if isinstance(found, TextEntries) else TextEntries()

        size = _outcome(lambda: len(entries()))
        yield size
        for name in NAMES:
            for ignore_case in (False, True):
                yield _outcome(partial(_find, entries, name, ignore_case))
        if size.isdigit():
            for index in range(min(int(size), 8)):
                yield _outcome(partial(_value, entries, index))
        yield _outcome(lambda: list(entries().edited(EDITS, names("te"))))
        yield _outcome(lambda: _found_again(entries()))


def _find(entries: Callable[[], TextEntries], name: str, ignore_case: bool) -> int:
    return entries().find(name, ignore_case=ignore_case)


def _value(entries: Callable[[], TextEntries], index: int) -> str | None:
    return entries().value(index)


def _found_again(entries: TextEntries) -> list[int]:
    """Look up the same names twice in one message: the second lookup must not depend on anything that the first one has kept."""
    return [entries.find(name) for name in NAMES * 2]


def _outcome(read: Callable[[], object]) -> str:
    try:
        return repr(read())
    except RemoteProtocolError:
        return "malformed"


def main() -> None:
    """Read messages until standard input ends. Each one is the number of its class, its length, both in four bytes, and its payload."""
    while head := sys.stdin.buffer.read(8):
        kind, size = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
        lines = outcomes(KINDS[kind], sys.stdin.buffer.read(size))
        sys.stdout.buffer.write(ascii(lines).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
