# SPDX-License-Identifier: Apache-2.0
"""
Request metadata: JSON values that belong to a client's request, and that its plugins in all phases share.

`Metadata` is what plugins get. It is read from a `MetadataStore` when a phase first uses it, and written when the chain has ended. The
phases of a request run one after the other, so no two calls write the metadata of one request at the same time.
"""

import json
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Protocol

from apisix.runner.errors import CallCancelled, MetadataError

MAX_BYTES: Final = 64 * 2**10
"""How large the metadata of one request may be, in bytes of JSON."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_NOT_JSON: Final = (TypeError, ValueError, RecursionError, RuntimeError)
"""Errors of `_encode`. RuntimeError is raised if another thread changes a dict meanwhile."""


class MetadataStore(Protocol):
    """Keeps the metadata of requests between their phases, for a limited time. The methods can be called from any thread."""

    def get(self, request_id: str) -> bytes | None:
        """Return what was stored, or None."""

    def put(self, request_id: str, data: bytes) -> None:
        """Store the metadata of a request. Replaces what was stored before."""

    def delete(self, request_id: str) -> None:
        """Remove the metadata of a request, if there is any."""


class MetadataUser(Protocol):
    """
    The call whose plugins use the metadata.

    Attributes: plugin: the name of the plugin that runs, None between two plugins.
    """

    plugin: str | None


class Metadata(MutableMapping[str, Any]):
    """
    The metadata of one request, as its plugins see and edit it.

    A value that is assigned becomes a copy, as JSON would give it back: tuples are lists, and the keys of dicts are strings.

    Args:
        store: from which it is read, and to which it is written.
        request_id: the gateway's variable `request_id`.
        user: the call whose plugins use it, None if their names are not known.
    Attributes:
        read: what it was at the beginning, as JSON; None if the request had no metadata.
        written: what was written at the end, as JSON; None if nothing was written.
        is_removed: True if it was removed at the end.
    """

    __slots__ = ("_has_ended", "_lent", "_request_id", "_sizes", "_store", "_user", "_values", "is_removed", "read", "written")

    def __init__(self, store: MetadataStore, request_id: str, user: MetadataUser | None = None) -> None:
        self._store = store
        self._request_id = request_id
        self._user = user
        self.read = store.get(request_id)
        self.written: bytes | None = None
        self.is_removed = False
        self._values: dict[str, Any] = {} if self.read is None else json.loads(self.read)
        self._sizes: dict[str, int] | None = None  # of each value, when one is assigned
        self._lent: dict[str, list[str]] = {}  # the plugins that got the list or the dict with this name, and can change it in place
        self._has_ended = False

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, list | dict):
            plugins = self._lent.setdefault(name, [])
            plugin = None if self._user is None else self._user.plugin
            if plugin is not None and plugin not in plugins:
                plugins.append(plugin)
        return value

    def __setitem__(self, name: str, value: object) -> None:
        """
        Assign a value.

        Raises:
            TypeError: the name is not a str, or the value is not JSON.
            ValueError: the value is not JSON, such as NaN or a circular list, or the metadata of the request becomes too large.
            CallCancelled: the chain has ended, so the metadata is no longer written.
        """
        self._refuse_ended()
        if not isinstance(name, str):
            raise TypeError(f"a name in metadata must be a str, not {type(name).__name__}")
        place = f"metadata[{name!r}]"
        text = _encoded(place, value)
        if self._sizes is None:
            self._sizes = {each: 0 if (found := _json(present)) is None else _size(each, found) for each, present in self._values.items()}
        size = _size(name, text)
        total = sum(self._sizes.values()) - self._sizes.get(name, 0) + size
        if total > MAX_BYTES:
            raise ValueError(
                f"{place} has {len(text)} bytes as JSON, and all metadata of the request would have {total}, but at most {MAX_BYTES} are "
                f"possible; keep larger values elsewhere, and their key here"
            )
        self._values[name] = json.loads(text)  # a copy: this value can't become something else that is not JSON
        self._sizes[name] = size
        self._lent.pop(name, None)

    def __delitem__(self, name: str) -> None:
        self._refuse_ended()
        del self._values[name]
        self._lent.pop(name, None)
        if self._sizes is not None:
            del self._sizes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        """Return the names. Values may be secret."""
        return f"<metadata of a request, names: {', '.join(self._values) or 'none'}>"

    def _refuse_ended(self) -> None:
        if self._has_ended:
            raise CallCancelled("the chain of the call has ended, so its metadata can't be changed any more")

    def end(self, *, is_last: bool) -> None:
        """
        Called when the chain has ended, before the reply is sent. Writes what has changed.

        Args: is_last: True if the request has no further phase, so that its metadata is removed.
        Raises:
            MetadataError: a plugin has changed a list or a dict in the metadata to something that is not JSON, or is too large.
            StoreError: it can't be written.
        """
        self._has_ended = True
        if is_last or not self._values:
            if self.read is not None:
                self._store.delete(self._request_id)
                self.is_removed = True
            return
        text = _json(self._values)
        if text is None or len(text) > MAX_BYTES + len("{}"):
            raise self._changed_in_place(text)
        data = text.encode()
        if data != self.read:
            self._store.put(self._request_id, data)
            self.written = data

    def _changed_in_place(self, text: str | None) -> MetadataError:
        """Return the error for a change in place. Args: text: all metadata as JSON, None if it is not JSON."""
        sizes: dict[str, int] = {}
        for name, value in self._values.items():
            try:
                sizes[name] = len(_encode(value))
            except _NOT_JSON as error:
                return self._error(name, f"can't be written as JSON: {error}")
        largest = max(self._lent, key=lambda name: sizes.get(name, 0), default=max(sizes, key=sizes.__getitem__))
        size, total = sizes[largest], len(text or "")
        return self._error(
            largest, f"has {size} bytes as JSON, and all metadata of the request has {total}, but at most {MAX_BYTES} are possible"
        )

    def _error(self, name: str, problem: str) -> MetadataError:
        return MetadataError(f"metadata[{name!r}]", problem, tuple(self._lent.get(name, ())))

    def snapshot(self) -> bytes | None:
        """Return what it is now, as JSON, for records. None if it is not JSON, or a thread that was abandoned is changing it."""
        text = _json(self._values)
        return None if text is None else text.encode()


def _json(value: object) -> str | None:
    """Return a value as JSON, None if that is not possible."""
    try:
        return _encode(value)
    except _NOT_JSON:
        return None


def _encoded(place: str, value: object) -> str:
    """Return a value as JSON. Raise TypeError or ValueError if that is not possible. Args: place: where it is, for messages."""
    try:
        return _encode(value)
    except TypeError as error:
        raise TypeError(f"{place} must be JSON (None, bool, int, float, str, list or dict): {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} can't be written as JSON: {error}") from None


def _size(name: str, text: str) -> int:
    """Return how many bytes a value adds to the metadata of its request. JSON is in ASCII here."""
    return len(_encode(name)) + len(":,") + len(text)
