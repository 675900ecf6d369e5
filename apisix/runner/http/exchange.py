# SPDX-License-Identifier: Apache-2.0
"""What requests and responses have in common: the accessors for what has to be fetched from the gateway."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Never, cast

from multidict import MultiDict

from apisix.runner.errors import BodyError, UnsupportedEdit, WrongContext
from apisix.runner.http.bodies import IN_COROUTINE_BYTES, IN_PLACE_BYTES, body_form, body_json, body_text, refuse_too_long, refuse_withheld
from apisix.runner.http.headers import Headers
from apisix.runner.http.info_requests import Answers, Asking, Info
from apisix.runner.http.reply import Reply
from apisix.runner.wire.messages import Message, ReqBody, RespBody, Var

_PROTOCOL: Final = Var("server_protocol")
_RUNNERS: Final = frozenset(
    {
        "aprefetch",
        "asked",
        "assigned_body",
        "body_size",
        "conf_token",
        "copy",
        "first",
        "mark",
        "prefetch",
        "reply_might_ask",
        "to_message",
        "undo_body",
        "undo_path",
    }
)
"""What requests and responses have for the runner and not for plugins."""


class Exchange:
    """
    The base of `Request` and `Response`.

    What has to be fetched is a call, with a twin that begins with `a` for coroutines: the plain one waits there and then,
    which in a coroutine would stop the worker, so there it raises WrongContext. Answers are kept; what the class of a plugin
    names in `needs` is there before its hook runs, and then both forms answer at once.
    """

    __slots__ = ("_answers", "_asking", "_body", "_context")

    # What a subclass says of itself.
    _kind = ""
    _body_info = cast("ReqBody | RespBody", None)  # an annotation would make it an attribute in C

    def _begin(self, asking: Asking) -> None:
        self._asking = asking
        # Made when first needed: most calls ask nothing, share nothing and look at few headers.
        self._answers: Answers | None = None
        self._context: dict[str, Any] | None = None
        self._body: bytes | None = None

    def __dir__(self) -> list[str]:
        """Return what plugins may use, for completion in a debugger or a shell: the runner's own methods are left out."""
        return [name for name in object.__dir__(self) if not name.startswith("_") and name not in _RUNNERS]

    @property
    def headers(self) -> Headers:
        """The headers."""
        raise NotImplementedError

    def mark(self) -> tuple[Any, ...]:
        """
        Return the state of all that can be edited, to be compared with what this returns later. Costs 0.2 us where nothing was.

        What its own value was assigned to counts as edited: to know better would take a look into the frame.
        """
        raise NotImplementedError

    def copy(self) -> "Exchange":
        """Return a detached twin with the same edits so far. Both share `context` and the answers that were fetched."""
        raise NotImplementedError

    def reply_might_ask(self) -> bool:
        """Tell whether `to_message` might have to ask the gateway for something."""
        return False

    def to_message(self, reply: Reply | None = None) -> Message:
        """Return what the gateway is told: the reply, or the edits."""
        raise NotImplementedError

    def _content_length(self) -> str | None:
        """Return the content-length that came."""
        raise NotImplementedError

    def _came_empty(self) -> bool:
        """Whether the message came without a body, as far as that is known without asking."""
        answers = self._answers
        if answers is not None and self._body_info in answers:
            return not answers.get(self._body_info, self._kind)
        return self._content_length() == "0"

    def _came_as(self, body: bytes) -> bool:
        """Whether a body is known to be the one that came, byte for byte."""
        answers = self._answers
        return answers is not None and self._body_info in answers and answers.get(self._body_info, self._kind) == body

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
        Return the fields of a form (`application/x-www-form-urlencoded`).

        Raises:
            BodyError: the content-type is another one, or there are more than 10,000 fields; or same as `text`.
            WrongContext: same as `text`. Use `await aform()`.
        """
        body = self._plain("form")
        return cast("MultiDict[str]", self._converted("form", len(body), partial(body_form, body, self._content_type())))

    async def aform(self) -> MultiDict[str]:
        """Same as `form`, but for coroutines."""
        body = await self._aplain()
        return cast("MultiDict[str]", await self._aconverted(len(body), partial(body_form, body, self._content_type())))

    def _content_type(self) -> str:
        return self.headers.get("content-type", "")

    def _plain(self, accessor: str) -> bytes:
        """Return the body as `read` gives it. Args: accessor: what the author called."""
        return self._raw(accessor)

    async def _aplain(self) -> bytes:
        return await self._araw()

    def _converted(self, accessor: str, size: int, convert: Callable[[], Any]) -> Any:
        """
        Convert a body of `size` bytes, without holding up the event loop if it is long.

        Raises: WrongContext: it is long, and this is a coroutine.
        """
        if size <= IN_PLACE_BYTES:
            return convert()
        try:
            return self._asking.offload(convert)
        except WrongContext as error:
            if size <= IN_COROUTINE_BYTES:
                return convert()
            raise self._long_in_coroutine(accessor, error) from None

    async def _aconverted(self, size: int, convert: Callable[[], Any]) -> Any:
        return convert() if size <= IN_PLACE_BYTES else await self._asking.aoffload(convert)

    def _long_in_coroutine(self, accessor: str, why: WrongContext) -> WrongContext:
        """Return the error for a body that only a thread may convert. Args: why: this is not possible here."""
        return WrongContext(
            f"{self._kind}.{accessor}() of more than {IN_COROUTINE_BYTES} bytes has to wait for a thread, and {why}. "
            f"In a coroutine write `await {self._kind}.a{accessor}()`"
        )

    def _raw(self, accessor: str) -> bytes:
        if self._body is not None:
            return self._body
        answers = self._cache()
        info = self._body_info
        if info not in answers:
            refuse_too_long(self._kind, self._content_length())
        called = f"{self._kind}.{accessor}()"
        body = answers.get(info, called)
        if body:
            return body
        if self._may_be_withheld():
            refuse_withheld(answers.get(_PROTOCOL, called))
        return b""

    async def _araw(self) -> bytes:
        if self._body is not None:
            return self._body
        answers = self._cache()
        info = self._body_info
        if info not in answers:
            refuse_too_long(self._kind, self._content_length())
        body = await answers.aget(info)
        if body:
            return body
        if self._may_be_withheld():
            refuse_withheld(await answers.aget(_PROTOCOL))
        return b""

    # Variables.

    def var(self, name: str) -> str | None:
        """
        Return a variable of nginx or APISIX, such as `request_id`, `consumer_name` or `arg_id`. None if it is not set.

        Raises:
            WrongContext: the variable has not been fetched, and this is a coroutine. Use `await avar(name)`.
            InfoUnavailable: the gateway is older than APISIX 2.9.
        """
        return _text(self._cache().get(Var(name), f"{self._kind}.var({name!r})"))

    async def avar(self, name: str) -> str | None:
        """Same as `var`, but for coroutines."""
        return _text(await self._cache().aget(Var(name)))

    @property
    def assigned_body(self) -> bytes | None:
        """The body that a plugin has assigned, None where none has."""
        return self._body

    def body_size(self) -> int | None:
        """Return the size in bytes of the body that was assigned or fetched, None where neither has happened."""
        if self._body is not None:
            return len(self._body)
        if self._answers is None or self._body_info not in self._answers:
            return None
        return len(self._answers.get(self._body_info, "") or b"")

    def asked(self) -> tuple[Info, ...]:
        """Return what was fetched from the gateway so far, in order."""
        return () if self._answers is None else tuple(self._answers)

    def prefetch(self, needs: Sequence[str]) -> None:
        """
        Fetch what is needed, back to back: "body", or names of variables. What is there already is not asked for.

        A body that is too long to cross is left out: reading it raises, at the line that reads. One that came is decompressed.
        """
        infos = self._missing(needs)
        if infos:
            self._cache().fetch(infos)
        if "body" in needs:  # asks for what is needed to judge it, and decompresses it
            with suppress(BodyError):  # reading it raises, at the line that reads
                self._plain("read")

    async def aprefetch(self, needs: Sequence[str]) -> None:
        """Do the same as `prefetch` in a coroutine."""
        infos = self._missing(needs)
        if infos:
            await self._cache().afetch(infos)
        if "body" in needs:
            with suppress(BodyError):
                await self._aplain()

    def _may_be_withheld(self) -> bool:
        """Return whether there may be a body although the gateway has none to hand over."""
        return False

    def _missing(self, needs: Sequence[str]) -> list[Info]:
        answers = self._cache()
        infos: list[Info] = []
        for need in needs:
            if need != "body":
                info: Info = Var(need)
            elif self._body is None:
                info = self._body_info
                try:
                    refuse_too_long(self._kind, self._content_length())
                except BodyError:
                    continue
            else:
                continue
            if info not in answers:
                infos.append(info)
        return infos

    def _cache(self) -> Answers:
        answers = self._answers
        if answers is None:
            answers = self._answers = Answers(self._asking)
        return answers


def _text(answer: bytes | None) -> str | None:
    return None if answer is None else answer.decode("utf-8", "surrogateescape")


def unsupported(what: str, reason: str) -> UnsupportedEdit:
    """Return the error for an assignment that the protocol can't carry out. Args: what: as the author wrote it."""
    return UnsupportedEdit(f"{what} can't be assigned: {reason}")
