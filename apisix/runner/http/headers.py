# SPDX-License-Identifier: Apache-2.0
"""Headers as plugins see and edit them: multidict views with case-insensitive names, which refuse some edits."""

from collections.abc import Iterable

from multidict import CIMultiDict

from apisix.runner import primitives
from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http.header_rules import MOST_HEADERS, REQUEST_FRAMING, REWRITE_IGNORES, check_header
from apisix.runner.http.mutable_multidict_view import MutableMultidictView

# The first letters of the names in the table. Most headers that plugins set begin with another letter and need no lookup.
_FIRST_LETTERS = sum({1 << primitives.first_letter(name) for name in REQUEST_FRAMING})


class Headers(MutableMultidictView):
    """
    Headers, whose names ignore case and may repeat: a CIMultiDict.

    An edit that can't be sent raises an error at the line that makes it. Source: RFC 9110, 5.1 and 5.5.

    >>> headers = Headers()
    >>> headers["Set-Cookie"] = "a=1"
    >>> headers.add("set-cookie", "b=2")
    >>> headers.getall("SET-COOKIE")
    ['a=1', 'b=2']
    """

    __slots__ = ()

    _multidict = CIMultiDict

    def _identity(self, key: str) -> str:
        """Return a name in lower case."""
        if type(key) is str and primitives.is_lower(key):
            return key
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, got {type(key).__name__}")
        return str.lower(key)

    def _index(self, identity: str, start: int) -> int:
        if primitives.is_ascii(identity):
            return self._entries.find(identity, start, True)
        # In the frame, only ASCII letters are compared without case.
        names = [name.lower() for name, _ in self._entries.decoded()]
        return names.index(identity, start) if identity in names[start:] else -1

    def _check(self, key: str, value: str) -> None:
        """Raise an error if a header can't be sent. A received value is accepted, so that all headers can be copied."""
        try:
            check_header(key, value)
        except ValueError:
            if value not in self._received_values(self._identity(key)):
                raise


class RequestHeaders(Headers):
    """
    The headers of a request. Each name can be sent with one value only, since the protocol can't express more.

    A name that was received with several values keeps them until it is edited. A header that is set to "" reads as "" and is deleted
    in what is sent, because the gateway passes no empty value on to an upstream. Source: gateway contract, 5.2.

    Most of the headers in `header_rules.REQUEST_FRAMING` can't be set, and the deletion of some is not sent. This class applies that
    table to edits and to what is sent, and every plugin API edits this class.
    """

    __slots__ = ()

    def _check(self, key: str, value: str) -> None:
        Headers._check(self, key, value)
        if _FIRST_LETTERS >> primitives.first_letter(key) & 1:
            identity = self._identity(key)
            if identity in REQUEST_FRAMING:
                self._check_framing(identity, value)

    def _check_framing(self, identity: str, value: str) -> None:
        rule = REQUEST_FRAMING[identity]
        if [value] == self._received_values(identity):
            return  # so that all headers can be copied
        if not rule.can_be_set:
            raise UnsupportedEdit(f"request header {identity!r} can't be set: {rule.reason}")
        if not value:
            raise UnsupportedEdit(f"request header {identity!r} can't be emptied: {rule.reason}")

    def changes(self) -> list[tuple[str, str | None]]:
        """
        Same as `MultidictView.changes`, but without what the table of framing headers forbids.

        An empty value is returned as a deletion, since the gateway deletes the header then. If the request does not have the header, it is
        not returned, unless the gateway may have more headers than it has sent. Source: gateway contract, 4 and 5.2.
        """
        changed = Headers.changes(self)
        for name, value in changed:
            if not value or (_FIRST_LETTERS >> primitives.first_letter(name) & 1 and name in REQUEST_FRAMING):
                return self._allowed(changed)
        return changed

    def _allowed(self, changed: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
        allowed: list[tuple[str, str | None]] = []
        for name, value in changed:
            rule = REQUEST_FRAMING.get(name)
            if value:
                if rule is None or rule.can_be_set:
                    allowed.append((name, value))
            elif (rule is None or rule.sends_deletion) and (self._index(name, 0) >= 0 or len(self._entries.decoded()) >= MOST_HEADERS):
                allowed.append((name, None))
        return allowed

    def _check_repeats(self, pairs: Iterable[tuple[str, str]], *, onto_present: bool) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            identity = self._identity(key)
            if identity in seen or (onto_present and key in self):
                raise UnsupportedEdit(
                    f"request header {key!r} would have more than one value, which the protocol can't send: "
                    f"join the values, or assign the one that the upstream should get"
                )
            seen.add(identity)


class ClientHeaders(Headers):
    """
    The headers that are set on the client's response if the request continues.

    Setting one that the gateway ignores raises UnsupportedEdit. Source: gateway contract, 5.4.
    """

    __slots__ = ()

    def _check(self, key: str, value: str) -> None:
        check_header(key, value)
        if key.lower() in REWRITE_IGNORES:
            raise UnsupportedEdit(
                f"the gateway ignores {key!r} among a request's response_headers: set it in ext-plugin-post-resp, or answer with a Reply"
            )
