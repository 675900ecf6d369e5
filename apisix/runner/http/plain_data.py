# SPDX-License-Identifier: Apache-2.0
"""
Convert a request or response to plain data, so that a hook can run in another process, and apply the edits that were made there.

`to_plain` and `apply_edits` are called where the call runs, `from_plain` and `edits_of` where the hook runs. Text is converted to bytes,
because received values may not be valid UTF-8. `context` is converted value by value. A value that is not plain data is left out.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import msgspec

from apisix.runner.errors import BodyError, WrongContext
from apisix.runner.http.body.content_encoding import DEFAULT_MAX_DECOMPRESSED_BYTES
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.mutable_multidict_view import MutableMultidictView
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.wire.call_messages import HTTPReqCallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ExtraInfoReq, Var

Pairs = list[tuple[bytes, bytes]]
Fetch = Callable[[list[str | None]], list[bytes | None]]
"""Returns info replies, for names of variables or None for the body."""
AsyncFetch = Callable[[list[str | None]], Awaitable[list[bytes | None]]]
"""The same, for coroutines."""
_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class PlainState(msgspec.Struct, array_like=True, frozen=True):
    """The values of a request or response that plugins can edit. None: the value is not edited, or does not exist."""

    path: bytes | None = None
    status: int | None = None
    body: bytes | None = None
    headers: Pairs | None = None
    args: Pairs | None = None
    response_headers: Pairs | None = None


class PlainCall(msgspec.Struct, array_like=True, frozen=True):
    """
    A request or response.

    Attributes:
        is_response: True for a response.
        payload: the message of the gateway.
        phase: the phase, None if it is not known.
        route_key: the key of the route configuration, None if it is not known.
        state: the edits of earlier plugins.
        context: the values of `context` that are plain data, each encoded.
        withheld: the names in `context` whose values are not plain data, with their types.
        replies: the info replies that are known: the names of variables, or None for the body.
    """

    is_response: bool
    payload: bytes
    phase: str | None
    route_key: str | None
    state: PlainState
    context: dict[str, bytes]
    withheld: dict[str, str]
    replies: list[tuple[str | None, bytes | None]]


class PlainReply(msgspec.Struct, array_like=True, frozen=True):
    """A Reply."""

    status: int
    body: bytes
    headers: Pairs


class PlainEdits(msgspec.Struct, array_like=True, frozen=True):
    """
    What a hook has done.

    Attributes:
        state: the values that it has edited.
        body_discarded: True if it has assigned the received body, which discards an assigned one.
        context: the values of `context` that it has set, each encoded.
        removed: the names in `context` that it has removed.
        reply: its Reply, None if there is none.
    """

    state: PlainState
    body_discarded: bool
    context: dict[str, bytes]
    removed: list[str]
    reply: PlainReply | None


class InfoOfProcess:
    """
    The I/O of a request or response in the process of a hook.

    Args:
        known: the info replies that were passed with the call.
        fetch: returns further ones, for names of variables or None for the body.
        afetch: the same for coroutines; None to call `fetch`, if the event loop has nothing else to do.
    """

    def __init__(self, known: Sequence[tuple[str | None, bytes | None]], fetch: Fetch, afetch: AsyncFetch | None) -> None:
        self._known = dict(known)
        self._fetch = fetch
        self._afetch = afetch

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """Return the replies to info requests."""
        names = _names(requests)
        missing = [name for name in names if name not in self._known]
        if missing:
            self._known.update(zip(missing, self._fetch(missing), strict=True))
        return [self._known[name] for name in names]

    async def arequest_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """Same as `request_info`, but for coroutines."""
        names = _names(requests)
        missing = [name for name in names if name not in self._known]
        if missing and self._afetch is not None:
            self._known.update(zip(missing, await self._afetch(missing), strict=True))
        return self.request_info(requests)

    def offload(self, work: Callable[[], Any]) -> Any:
        """Call `work`. In the process of a hook, nothing else has to run meanwhile."""
        return work()

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        """Same as `offload`."""
        return work()

    def open_metadata(self, request_id: str) -> Metadata:
        """Raise WrongContext: only the worker can use metadata."""
        raise WrongContext(
            'metadata() is not available in a hook with runs_in = "process"; let another plugin of the chain copy what the hook needs '
            "from the metadata to `context`, or back"
        )


# Where the call runs.


def to_plain(message: Request | Response) -> PlainCall:
    """
    Return a request or response as plain data.

    Raises: RemoteProtocolError: the message of the gateway is malformed.
    """
    received = message.received()
    is_response = isinstance(received, HTTPRespCallReq)
    original = _new_message(received, None, None, cast("Any", None), DEFAULT_MAX_DECOMPRESSED_BYTES)
    context: dict[str, bytes] = {}
    withheld: dict[str, str] = {}
    for name, value in message.context.items():
        try:
            context[name] = encode_plain(value)
        except (TypeError, ValueError, OverflowError):
            withheld[name] = type(value).__name__
    phase = message.phase
    return PlainCall(
        is_response,
        received.encode(),
        None if phase is None else phase.value,
        message.route_key,
        _changed(state_of(original), state_of(message)),
        context,
        withheld,
        [(name, reply) for name, reply in _known_replies(message)],
    )


def apply_edits(message: Request | Response, edits: PlainEdits) -> Reply | None:
    """Apply what a hook has done in another process, and return its Reply."""
    if edits.body_discarded and isinstance(message, Request):
        message.undo_body()
    _apply_state(message, edits.state)
    for name in edits.removed:
        message.context.pop(name, None)
    for name, value in edits.context.items():
        message.context[name] = msgspec.msgpack.decode(value)
    reply = edits.reply
    return None if reply is None else Reply(reply.status, reply.body, _text_pairs(reply.headers))


async def fetch_info(message: Request | Response, names: Sequence[str | None]) -> list[bytes | None]:
    """
    Return info replies for a hook in another process. Args: names: the names of variables, or None for the body.

    Raises: InfoUnavailable: the gateway is too old.
    """
    await message.aprefetch([name for name in names if name is not None])
    if None in names:
        with suppress(BodyError):  # the same error is raised where the hook runs
            await (message.aread(decode=False) if isinstance(message, Response) else message.aread())
    return [message.known_body() if name is None else _bytes_or_none(message.var(name)) for name in names]


def fetch_info_blocking(message: Request | Response, names: Sequence[str | None]) -> list[bytes | None]:
    """Same as `fetch_info`, but for plain hooks."""
    if None in names:
        with suppress(BodyError):
            _ = message.read(decode=False) if isinstance(message, Response) else message.read()
    return [message.known_body() if name is None else _bytes_or_none(message.var(name)) for name in names]


# Where the hook runs.


def from_plain(
    plain: PlainCall,
    fetch: Fetch,
    max_decompressed_bytes: int = DEFAULT_MAX_DECOMPRESSED_BYTES,
    afetch: AsyncFetch | None = None,
) -> Request | Response:
    """
    Return the request or response for a hook.

    Args:
        fetch: returns info replies, for names of variables or None for the body.
        max_decompressed_bytes: how large a decompressed response may be, in bytes.
        afetch: the same as `fetch` for coroutines; None to call `fetch`.
    """
    received = HTTPRespCallReq.decode(plain.payload) if plain.is_response else HTTPReqCallReq.decode(plain.payload)
    io = InfoOfProcess(plain.replies, fetch, afetch)
    phase = None if plain.phase is None else Phase(plain.phase)
    message = _new_message(received, phase, plain.route_key, io, max_decompressed_bytes)
    _apply_state(message, plain.state)
    message.context.update({name: msgspec.msgpack.decode(value) for name, value in plain.context.items()})
    return message


def explain(plain: PlainCall, error: BaseException) -> None:
    """Add a note to an error of a hook if the hook has read a name of `context` that was left out."""
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    kind = plain.withheld.get(name) if isinstance(name, str) else None
    if kind is not None:
        error.add_note(
            f"context[{name!r}] is a {kind}, which is not passed to a plugin with runs_in = 'process'. Only None, bool, int, float, str, "
            "bytes, and lists and dicts of these are"
        )


def edits_of(plain: PlainCall, before: PlainState, message: Request | Response, reply: Reply | None) -> PlainEdits:
    """
    Return what a hook has done.

    Args:
        plain: the call as it was received.
        before: the state before the hook ran.
        message: the request or response after the hook has run.
        reply: the Reply of the hook, None if there is none.
    Raises: TypeError: the hook has put a value into `context` that is not plain data.
    """
    after = state_of(message)
    context: dict[str, bytes] = {}
    for name, value in message.context.items():
        try:
            encoded = encode_plain(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"the hook runs in another process and has set context[{name!r}] to a {type(value).__name__}, which can't be passed to the "
                f"other plugins: {error}. Only None, bool, int, float, str, bytes, and lists and dicts of these can"
            ) from None
        if plain.context.get(name) != encoded:
            context[name] = encoded
    removed = [name for name in plain.context if name not in message.context]
    made = None if reply is None else PlainReply(reply.status, reply.body, _byte_pairs(list(reply.headers.items())))
    return PlainEdits(_changed(before, after), before.body is not None and after.body is None, context, removed, made)


def state_of(message: Request | Response) -> PlainState:
    """Return the current values that plugins can edit."""
    headers = _byte_pairs(message.headers.pairs())
    if isinstance(message, Response):
        return PlainState(status=message.status, body=message.assigned_body, headers=headers)
    return PlainState(
        path=_bytes(message.path),
        body=message.assigned_body,
        headers=headers,
        args=_byte_pairs(message.args.pairs()),
        response_headers=_byte_pairs(message.response_headers.pairs()),
    )


def encode_plain(value: object) -> bytes:
    """Return plain data as bytes. Raise TypeError, ValueError or OverflowError if the value is not plain data."""
    _check_plain(value)
    return msgspec.msgpack.encode(value)


def _check_plain(value: object) -> None:
    kind = type(value)
    if kind is dict:
        for name, member in cast("dict[object, object]", value).items():
            if type(name) is not str:
                raise TypeError(f"a dict has a key of type {type(name).__name__}")
            _check_plain(member)
    elif kind is list:
        for member in cast("list[object]", value):
            _check_plain(member)
    elif kind not in _PLAIN:
        raise TypeError(f"it is or contains a {kind.__name__}")


def _names(requests: Sequence[ExtraInfoReq]) -> list[str | None]:
    return [request.info.name if isinstance(request.info, Var) else None for request in requests]


def _new_message(
    received: HTTPReqCallReq | HTTPRespCallReq, phase: Phase | None, route_key: str | None, io: Any, max_decompressed_bytes: int
) -> Request | Response:
    if isinstance(received, HTTPRespCallReq):
        return Response(received, io, route_key, phase or Phase.POST_RESP, max_decompressed_bytes)
    return Request(received, io, phase, route_key)


def _known_replies(message: Request | Response) -> list[tuple[str | None, bytes | None]]:
    replies: list[tuple[str | None, bytes | None]] = []
    for info in message.fetched():
        if isinstance(info, Var):
            replies.append((info.name, _bytes_or_none(message.var(info.name))))
        elif message.assigned_body is None:  # otherwise the hook reads the assigned one
            replies.append((None, message.known_body()))
    return replies


def _changed(before: PlainState, after: PlainState) -> PlainState:
    """Return the values that differ."""
    values = {name: getattr(after, name) for name in PlainState.__struct_fields__ if getattr(before, name) != getattr(after, name)}
    return PlainState(**values)


def _apply_state(message: Request | Response, state: PlainState) -> None:
    if state.body is not None:  # first, because it changes headers of a response
        message.body = state.body
    if isinstance(message, Response):
        if state.status is not None:
            message.status = state.status
    else:
        if state.path is not None:
            message.path = _text(state.path)
        if state.args is not None:
            _apply_pairs(message.args, state.args, str)
        if state.response_headers is not None:
            _apply_pairs(message.response_headers, state.response_headers, str.lower)
    if state.headers is not None:
        _apply_pairs(message.headers, state.headers, str.lower)


def _apply_pairs(view: MutableMultidictView, target: Pairs, fold: Callable[[str], str]) -> None:
    """Edit the names whose values differ from those in `target`. Args: fold: returns a name as names are compared."""
    current, wanted = _grouped(view.pairs(), fold), _grouped(_text_pairs(target), fold)
    for name in current:
        if name not in wanted:
            del view[name]
    for name, pairs in wanted.items():
        if name in current and [value for _, value in current[name]] == [value for _, value in pairs]:
            continue
        if len(pairs) == 1:
            view[pairs[0][0]] = pairs[0][1]
            continue
        view.popall(name, None)
        for spelling, value in pairs:
            view.add(spelling, value)


def _grouped(pairs: Sequence[tuple[str, str]], fold: Callable[[str], str]) -> dict[str, list[tuple[str, str]]]:
    grouped: dict[str, list[tuple[str, str]]] = {}
    for name, value in pairs:
        grouped.setdefault(fold(name), []).append((name, value))
    return grouped


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bytes_or_none(text: str | None) -> bytes | None:
    return None if text is None else _bytes(text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _byte_pairs(pairs: Sequence[tuple[str, str]]) -> Pairs:
    return [(_bytes(name), _bytes(value)) for name, value in pairs]


def _text_pairs(pairs: Pairs) -> list[tuple[str, str]]:
    return [(_text(name), _text(value)) for name, value in pairs]
