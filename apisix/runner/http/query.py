# SPDX-License-Identifier: Apache-2.0
"""The arguments of a request's query: as a multidict, as text, and as they have to be sent."""

from urllib.parse import quote

from apisix.runner import primitives
from apisix.runner.http.header_rules import check_text
from apisix.runner.http.mutable_multidict_view import MutableMultidictView
from apisix.runner.wire.entries import TextEntries


class Args(MutableMultidictView):
    """
    The decoded arguments of the query, a MultiDict in which a name can have several values. An argument without a value reads as "".

    >>> args = Args()
    >>> args.add("id", "1")
    >>> args.add("id", "2")
    >>> list(args.items())
    [('id', '1'), ('id', '2')]
    """

    __slots__ = ()

    def _check(self, key: str, value: str) -> None:
        if not (isinstance(key, str) and isinstance(value, str) and primitives.is_ascii(key) and primitives.is_ascii(value)):
            check_text("an argument's name", key)
            check_text(f"the value of argument {key!r}", value)


def query_text(received: TextEntries, args: Args | None) -> str:
    """
    Return a query as percent-encoded text.

    Args:
        received: the received arguments.
        args: the same with edits, None if there are none.
    """
    pairs = received.decoded()
    if args is not None:
        flags = {name for name, value in pairs if value is None}
        pairs = [(name, None if name in flags and not args.changed(name) else value) for name, value in args.items()]
    return "&".join([_quoted(name) if value is None else f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])


def _quoted(text: str) -> str:
    return quote(text, safe="/:@,", errors="surrogateescape")


def one_argument(entries: TextEntries) -> list[tuple[str, str]]:
    """
    Return all values of one argument, to be sent unchanged beside a new path: before 3.16, the gateway drops the query otherwise.

    An argument with values is preferred, because an entry without value is a deletion. If all arguments are flags (`?flag`), the closest
    that can be sent is `flag=`. Source: gateway contract, 5.1.
    """
    pairs = entries.decoded()
    if not pairs:
        return []
    flags = {name for name, value in pairs if value is None}
    chosen = next((name for name, _ in pairs if name not in flags), pairs[0][0])
    return [(name, value or "") for name, value in pairs if name == chosen]
