# SPDX-License-Identifier: Apache-2.0
"""
The common base of `Request` and `Response`: the body and the variables, which have to be fetched from the gateway.

Each accessor that may have to wait exists twice. `read()` waits until the gateway has replied; in a coroutine that would block the worker,
so it raises WrongContext there. `aread()` is for coroutines. Replies are kept, and whatever a plugin's class lists in `needs` is fetched
before its hook runs. After that, neither form has to wait.
"""

from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Never, cast

from multidict import MultiDict

from apisix.runner.errors import BodyError, InfoUnavailable, UnsupportedEdit, WrongContext
from apisix.runner.http.body.multipart_form import FormFile
from apisix.runner.http.body.parsing import IN_COROUTINE_BYTES, IN_PLACE_BYTES, body_files, body_form, body_json, body_text
from apisix.runner.http.body.transfer import refuse_too_long, refuse_withheld
from apisix.runner.http.headers import Headers
from apisix.runner.http.info_requests import CallIO, Info, InfoReplies
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.reply import Reply
from apisix.runner.wire.messages import Message, Var

_PROTOCOL: Final = Var("server_protocol")
_REQUEST_ID: Final = Var("request_id")
_NOT_FOR_PLUGINS: Final = frozenset(
    {
        "aprefetch",
        "assigned_body",
        "conf_token",
        "copy",
        "end_metadata",
        "fetched",
        "first",
        "known_body",
        "mark",
        "prefetch",
        "received",
        "reply_may_need_info",
        "to_message",
        "undo_body",
        "undo_path",
    }
)
"""The public attributes that only the runner uses."""


class HTTPMessage:
    """The base of `Request` and `Response`."""

    __slots__ = ("_body", "_context", "_io", "_replies")

    _kind = ""
    """"request" or "response"."""

    def _begin(self, io: CallIO) -> None:
        self._io = io
        # Created on first use, since most calls need neither.
        self._replies: InfoReplies | None = None
        self._context: dict[str, Any] | None = None
        self._body: bytes | None = None  # the assigned one

    def __dir__(self) -> list[str]:
        """Return the attributes that plugins may use, for completion in a debugger or a shell."""
        return [name for name in object.__dir__(self) if not name.startswith("_") and name not in _NOT_FOR_PLUGINS]

    @property
    def headers(self) -> Headers:
        """The headers."""
        raise NotImplementedError

    # For the runner.

    def mark(self) -> tuple[Any, ...]:
        """
        Return the edits so far, as a value that is equal to the result of a later call if nothing was edited in between.

        An assignment of the present value may count as an edit, because finding out is expensive.
        """
        raise NotImplementedError

    def copy(self) -> "HTTPMessage":
        """Return an independent copy with the same edits. Both share `context` and the info replies."""
        raise NotImplementedError

    def reply_may_need_info(self) -> bool:
        """Return True if `to_message` may have to send an info request."""
        return False

    def to_message(self, reply: Reply | None = None) -> Message:
        """Return the message for the gateway: the reply, or the edits."""
        raise NotImplementedError

    def _body_info(self) -> Info:
        """Return the info request for the body."""
        raise NotImplementedError

    def _content_length(self) -> str | None:
        """Return the received content-length."""
        raise NotImplementedError

    def _received_body(self) -> bytes | None:
        """Return the body that was received, None if it was not fetched yet."""
        replies = self._replies
        info = self._body_info()
        return (replies.get(info) or b"") if replies is not None and info in replies else None

    def _is_received_empty(self) -> bool:
        """Return True if the message is known to have been received without a body. Nothing is fetched to find out."""
        body = self._received_body()
        return self._content_length() == "0" if body is None else not body

    @property
    def context(self) -> dict[str, Any]:
        """A dict that the plugins of one chain share. It is empty when the chain begins."""
        context = self._context
        if context is None:
            context = self._context = {}
        return context

    @context.setter
    def context(self, value: Never) -> None:
        raise unsupported(f"{self._kind}.context", "the plugins of one chain share it; edit it in place")

    # The body.

    def read(self) -> bytes:
        """
        Return the body, b"" if there is none. If a body was assigned, return that one.

        Raises:
            WrongContext: the body has not been fetched, and this is a coroutine. Use `await aread()`.
            BodyError: the body is too long to be transferred.
        """
        return self._plain("read")

    async def aread(self) -> bytes:
        """Same as `read`, but for coroutines."""
        return await self._aplain()

    def text(self) -> str:
        """
        Return the body as text, decoded with the charset of its content-type. The default is UTF-8.

        Raises:
            BodyError: the body is not valid in this charset, it is longer than 16 MiB, or the charset is not a label of the WHATWG
                Encoding Standard.
            WrongContext: same as `read`; or the body is longer than 512 KiB, and this is a coroutine. Use `await atext()`.
        """
        body = self._plain("text")
        return cast("str", self._converted("text", len(body), partial(body_text, body, self._content_type())))

    async def atext(self) -> str:
        """Same as `text`, but for coroutines."""
        body = await self._aplain()
        return cast("str", await self._aconverted(len(body), partial(body_text, body, self._content_type())))

    def json(self) -> Any:
        """
        Return the parsed JSON of the body. Its content-type matters only for the charset.

        Raises:
            BodyError: the body is not JSON, or has more than 200,000 values; or same as `text`.
            WrongContext: same as `text`. Use `await ajson()`.
        """
        body = self._plain("json")
        return self._converted("json", len(body), partial(body_json, body, self._content_type()))

    async def ajson(self) -> Any:
        """Same as `json`, but for coroutines."""
        body = await self._aplain()
        return await self._aconverted(len(body), partial(body_json, body, self._content_type()))

    def form(self) -> MultiDict[str]:
        """
        Return the fields of a form, whose content-type is `application/x-www-form-urlencoded` or `multipart/form-data`.

        The files of a form are left out: `files` returns them.

        Raises:
            BodyError: the content-type is another one, the form is not valid, or there are more than 10,000 fields (1,000 parts in
                `multipart/form-data`); or same as `text`.
            WrongContext: same as `text`. Use `await aform()`.
        """
        body = self._plain("form")
        return cast("MultiDict[str]", self._converted("form", len(body), partial(body_form, body, self._content_type())))

    async def aform(self) -> MultiDict[str]:
        """Same as `form`, but for coroutines."""
        body = await self._aplain()
        return cast("MultiDict[str]", await self._aconverted(len(body), partial(body_form, body, self._content_type())))

    def files(self) -> MultiDict[FormFile]:
        """
        Return the files of a form (`multipart/form-data`), by the name of their field. Another form has none.

        Each file has the attributes `filename`, `content_type` and `data`. The client chooses all of them: check the content, and do not
        use the name as a path.

        Raises:
            BodyError: same as `form`.
            WrongContext: same as `text`. Use `await afiles()`.
        """
        body = self._plain("files")
        return cast("MultiDict[FormFile]", self._converted("files", len(body), partial(body_files, body, self._content_type())))

    async def afiles(self) -> MultiDict[FormFile]:
        """Same as `files`, but for coroutines."""
        body = await self._aplain()
        return cast("MultiDict[FormFile]", await self._aconverted(len(body), partial(body_files, body, self._content_type())))

    def _content_type(self) -> str:
        return self.headers.get("content-type", "")

    def _plain(self, accessor: str) -> bytes:
        """
        Return the body as `read` does.

        Args:
            accessor: the method that the plugin called, for error messages.
        """
        return self._raw(accessor)

    async def _aplain(self) -> bytes:
        return await self._araw()

    def _converted(self, accessor: str, size: int, convert: Callable[[], Any]) -> Any:
        """Convert a body of `size` bytes, without blocking the event loop if it is long. Raise WrongContext for that in a coroutine."""
        if size <= IN_PLACE_BYTES:
            return convert()
        try:
            return self._io.offload(convert)
        except WrongContext as error:
            if size <= IN_COROUTINE_BYTES:
                return convert()
            raise self._long_in_coroutine(accessor, error) from None

    async def _aconverted(self, size: int, convert: Callable[[], Any]) -> Any:
        return convert() if size <= IN_PLACE_BYTES else await self._io.aoffload(convert)

    def _long_in_coroutine(self, accessor: str, why: WrongContext) -> WrongContext:
        """Return the error for a body that may only be converted in a thread. `why` is the reason why that is not possible here."""
        return WrongContext(
            f"{self._kind}.{accessor}() of more than {IN_COROUTINE_BYTES} bytes has to wait for a thread, and {why}. "
            f"In a coroutine write `await {self._kind}.a{accessor}()`"
        )

    def _raw(self, accessor: str) -> bytes:
        """Return the assigned body, or the received one, which is not decompressed."""
        if self._body is not None:
            return self._body
        replies = self._begin_body()
        body = replies.get(self._body_info(), accessor)
        if body:
            return body
        if self._may_be_withheld():
            refuse_withheld(replies.get(_PROTOCOL, accessor))
        return b""

    async def _araw(self) -> bytes:
        if self._body is not None:
            return self._body
        replies = self._begin_body()
        body = await replies.aget(self._body_info())
        if body:
            return body
        if self._may_be_withheld():
            refuse_withheld(await replies.aget(_PROTOCOL))
        return b""

    def _begin_body(self) -> InfoReplies:
        """Return the info replies. Raise BodyError if the received body has yet to be fetched and is too long for that."""
        replies = self._info_replies()
        if self._body_info() not in replies:
            length = self._content_length()
            if length is not None:
                refuse_too_long(self._kind, length)
        return replies

    # Variables.

    def var(self, name: str) -> str | None:
        """
        Return a variable of nginx or APISIX, such as `request_id`, `consumer_name` or `arg_id`. None if it is not set.

        Raises:
            WrongContext: the variable has not been fetched, and this is a coroutine. Use `await avar(name)`.
            InfoUnavailable: the gateway is older than APISIX 2.9.
        """
        return _text(self._info_replies().get(Var(name)))

    async def avar(self, name: str) -> str | None:
        """Same as `var`, but for coroutines."""
        return _text(await self._info_replies().aget(Var(name)))

    # Metadata.

    def metadata(self) -> MutableMapping[str, Any]:
        """
        Return the metadata of the client's request: a dict that its plugins in all phases share. Names are str, and values are JSON.

        The first use in a phase sends an info request, for `request_id`. What has changed is written when the chain has ended. The entry is
        removed when the chain of the response phase has ended, and otherwise after `metadata.expire_time`.

        Assigning a value raises TypeError or ValueError if it is not JSON, or if the metadata of the request becomes larger than 64 KiB.

        Raises:
            WrongContext: the variable `request_id` has not been fetched, and this is a coroutine. Use `await ametadata()`.
            InfoUnavailable: the gateway is older than APISIX 2.9.
        """
        replies = self._info_replies()
        if replies.metadata is None:
            self._open_metadata(replies.get(_REQUEST_ID, "metadata"))
        return cast("Metadata", replies.metadata)

    async def ametadata(self) -> MutableMapping[str, Any]:
        """Same as `metadata`, but for coroutines."""
        replies = self._info_replies()
        request_id = None if replies.metadata is not None else await replies.aget(_REQUEST_ID)
        if replies.metadata is None:  # another task may have opened it meanwhile
            self._open_metadata(request_id)
        return cast("Metadata", replies.metadata)

    def _open_metadata(self, request_id: bytes | None) -> None:
        if not request_id:
            raise InfoUnavailable(
                f"{self._kind}.metadata() needs the gateway's variable request_id, which is not set; all releases of APISIX set it"
            )
        self._info_replies().metadata = self._io.open_metadata(request_id.decode("latin-1"))

    # For the runner.

    @property
    def assigned_body(self) -> bytes | None:
        """The body that a plugin has assigned, or None."""
        return self._body

    def known_body(self) -> bytes | None:
        """Return the body that was assigned or fetched, or None. A fetched one is not decompressed."""
        return self._received_body() if self._body is None else self._body

    def fetched(self) -> tuple[Info, ...]:
        """Return the info requests that have been replied to, in order."""
        return () if self._replies is None else tuple(self._replies)

    def end_metadata(self, is_last: bool) -> None:
        """
        Write the metadata of the request, if a plugin has changed it. Called when the chain has ended.

        Args: is_last: True if the request has no further phase.
        Raises: TypeError, ValueError: as `Metadata.end`.
        """
        replies = self._replies
        if replies is not None and replies.metadata is not None:
            replies.metadata.end(is_last=is_last)

    def prefetch(self, needs: Sequence[str]) -> None:
        """
        Fetch what is in `needs`, back to back, unless it was fetched before. The body is also decompressed.

        A body that is too long to be transferred is left out. To read it raises an error then.

        Args:
            needs: "body" and names of variables.
        """
        infos = self._missing(needs)
        if infos:
            self._info_replies().fetch(infos)
        if "body" in needs:  # this also fetches what decides whether there may be a body, if it is empty
            with suppress(BodyError):
                self._plain("read")

    async def aprefetch(self, needs: Sequence[str]) -> None:
        """Same as `prefetch`, but for coroutines."""
        infos = self._missing(needs)
        if infos:
            await self._info_replies().afetch(infos)
        if "body" in needs:
            with suppress(BodyError):
                await self._aplain()

    def _may_be_withheld(self) -> bool:
        """Return True if there may be a body that the gateway does not transfer."""
        return False

    def _missing(self, needs: Sequence[str]) -> list[Info]:
        replies = self._info_replies()
        infos: list[Info] = []
        for need in needs:
            if need != "body":
                info: Info = Var(need)
            elif self._body is None:
                info = self._body_info()
                try:
                    refuse_too_long(self._kind, self._content_length())
                except BodyError:
                    continue
            else:
                continue
            if info not in replies:
                infos.append(info)
        return infos

    def _info_replies(self) -> InfoReplies:
        replies = self._replies
        if replies is None:
            replies = self._replies = InfoReplies(self._io, self._kind)
        return replies


def _text(reply: bytes | None) -> str | None:
    return None if reply is None else reply.decode("utf-8", "surrogateescape")


def created_by_runner(name: str) -> TypeError:
    """Return the error for a plugin's test that creates a request or a response. Earlier releases allowed this."""
    return TypeError(
        f"{name}() can only be created by the runner. In a test, use the fixture `client`, or if the test calls filter() itself, "
        f"import {name} from apisix.testing.release_02 (for PluginBase) or apisix.testing.release_01 (for Base)"
    )


def unsupported(what: str, reason: str) -> UnsupportedEdit:
    """Return the error for an assignment that the protocol does not support. `what` is the attribute, as plugins write it."""
    return UnsupportedEdit(f"{what} can't be assigned: {reason}")
