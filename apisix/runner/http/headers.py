# SPDX-License-Identifier: Apache-2.0
"""Headers and arguments, as an author edits them."""

from collections.abc import Iterable

from multidict import CIMultiDict

from apisix.runner import primitives
from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http.edits import EditableEntries
from apisix.runner.http.fields import REWRITE_IGNORES, check_header, check_text
from apisix.runner.http.framing import REQUEST_FRAMING
from apisix.runner.wire.entries import NO_ENTRIES, TextEntries

# Which letters the names in the table begin with: most headers that plugins set need no look into the table.
_FIRST_LETTERS = sum({1 << primitives.first_letter(name) for name in REQUEST_FRAMING})


class Headers(EditableEntries):
    """
    Headers whose names may repeat: a CIMultiDict that refuses what can't be sent at the line that tries.

    >>> headers = Headers()
    >>> headers["Set-Cookie"] = "a=1"
    >>> headers.add("set-cookie", "b=2")
    >>> headers.getall("SET-COOKIE")
    ['a=1', 'b=2']
    """

    __slots__ = ()

    _ignore_case = True
    _multidict = CIMultiDict


class RequestHeaders(Headers):
    """
    The headers of a request: one value a name, because the protocol can't repeat one.

    A name that came with several values keeps them until it is edited. Setting a header to "" reads back as "", and is sent as a
    deletion: the gateway lets no empty value reach an upstream. Source: gateway contract, 5.2.

    What `framing.REQUEST_FRAMING` names can't be set, and of some a deletion is not sent: `changes` never returns more than that table
    allows.
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
        if [value] == self._originals(identity):
            return  # all headers can be echoed
        if not rule.can_be_set:
            raise UnsupportedEdit(f"request header {identity!r} can't be set: {rule.reason}")
        if not value:
            raise UnsupportedEdit(f"request header {identity!r} can't be emptied: {rule.reason}")

    def changes(self) -> list[tuple[str, str | None]]:
        """
        Return the edits that may be sent, as `Overlay.changes` does. Nothing in the table of framing headers gets past this.

        An empty value becomes a deletion, which is what the gateway makes of it.
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
            elif (rule is None or rule.sends_deletion) and self._index(name) >= 0:
                allowed.append((name, None))
        return allowed

    def _check_repeats(self, pairs: Iterable[tuple[str, str]], *, onto_present: bool) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            identity = self._identity(key)
            if identity in seen or (onto_present and key in self):
                raise UnsupportedEdit(
                    f"request header {key!r} would have more than one value, which the protocol can't send: "
                    f"join the values, or assign the one that shall reach the upstream"
                )
            seen.add(identity)


class ClientHeaders(Headers):
    """Headers to set on the client's response while the request goes on; the ten that the gateway ignores are refused."""

    __slots__ = ()

    def _check(self, key: str, value: str) -> None:
        check_header(key, value)
        if key.lower() in REWRITE_IGNORES:
            raise UnsupportedEdit(
                f"the gateway ignores {key!r} among a request's response_headers: set it in ext-plugin-post-resp, or answer with a Reply"
            )


class Args(EditableEntries):
    """
    The query's arguments: a MultiDict. An argument without value (`?flag`) reads as "".

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


# What a call makes its views with: half of what the constructors cost.


def headers_of(entries: TextEntries) -> Headers:
    """Return the headers of a response that came."""
    self = Headers.__new__(Headers)
    self._begin(entries, True)
    return self


def request_headers_of(entries: TextEntries) -> RequestHeaders:
    """Return the headers of a request that came."""
    self = RequestHeaders.__new__(RequestHeaders)
    self._begin(entries, True)
    return self


def client_headers() -> ClientHeaders:
    """Return headers for the client's response, none yet."""
    self = ClientHeaders.__new__(ClientHeaders)
    self._begin(NO_ENTRIES, True)
    return self


def args_of(entries: TextEntries) -> Args:
    """Return the arguments of a query that came."""
    self = Args.__new__(Args)
    self._begin(entries, False)
    return self
