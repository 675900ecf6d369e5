# SPDX-License-Identifier: Apache-2.0
"""
Info requests: what a plugin fetches from the gateway in the middle of a call, and what older gateways do not support.

A request or response fetches variables and bodies through `InfoReplies`, which keeps them. The I/O itself is a `CallIO`, which the engine
provides. The last part of this module is about the releases of APISIX. Source: gateway contract, 6 and 10.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from apisix.runner.errors import BodyError, WrongContext
from apisix.runner.http.metadata import Metadata
from apisix.runner.wire.messages import ExtraInfoReq, ReqBody, RespBody, Var

if TYPE_CHECKING:
    import asyncio

Info = Var | ReqBody | RespBody
_UNKNOWN: Final[Any] = object()


class CallIO(Protocol):
    """What a request or response needs of the call that it belongs to."""

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Send info requests back to back, wait, and return the replies in the same order.

        Raises:
            WrongContext: this is a coroutine, which can't wait here without blocking the event loop.
        """

    async def arequest_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """Same as `request_info`, but for coroutines, in any task of the call's event loop."""

    def offload(self, work: Callable[[], Any]) -> Any:
        """
        Run `work` in a thread, wait without blocking the event loop, and return its result or raise its exception.

        Raises:
            WrongContext: this is a coroutine, which can't wait here without blocking the event loop.
        """

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        """Same as `offload`, but for coroutines."""

    def open_metadata(self, request_id: str) -> Metadata:
        """
        Return the metadata of a client's request.

        Args: request_id: the gateway's variable `request_id`, which was fetched in this call.
        """


class InfoReplies:
    """
    The info replies of one call. Nothing is requested twice, even if the reply was empty.

    All copies of a request share them. Source: gateway contract, 6: a second info request for a response's body breaks the response.

    Args:
        io: the I/O of the call.
        subject: "request" or "response", for error messages.
    Attributes:
        decompressed: the response's body without its content-encoding, or the error that its decompression raised. None if it was not
            read yet.
        metadata: the metadata of the client's request, None if no plugin of the call has used it.
    """

    __slots__ = ("_io", "_known", "_pending", "_spent", "_subject", "decompressed", "metadata")

    def __init__(self, io: CallIO, subject: str) -> None:
        self._io = io
        self._subject = subject
        self._known: dict[Info, bytes | None] = {}
        self._pending: dict[Info, asyncio.Future[None]] | None = None
        self._spent = False
        self.decompressed: bytes | BodyError | None = None
        self.metadata: Metadata | None = None

    def __contains__(self, info: Info) -> bool:
        return info in self._known

    def __iter__(self) -> Iterator[Info]:
        return iter(self._known)

    def get(self, info: Info, accessor: str = "") -> bytes | None:
        """
        Return a reply. Send the info request if that was not done yet.

        Args:
            accessor: the method that the plugin called to get a body, such as "read".
        Raises:
            WrongContext: the request has to be sent, and this is a coroutine.
        """
        reply = self._known.get(info, _UNKNOWN)
        if reply is _UNKNOWN:
            try:
                self.fetch((info,))
            except WrongContext as error:
                raise self._no_coroutine(info, accessor, error) from None
            reply = self._known[info]
        return reply  # type: ignore[no-any-return]

    def _no_coroutine(self, info: Info, accessor: str, error: WrongContext) -> WrongContext:
        method = f"{accessor}()" if accessor or not isinstance(info, Var) else f"var({info.name!r})"
        what, need = (f"var({info.name!r})", info.name) if isinstance(info, Var) else ("the body", "body")
        return WrongContext(
            f"{self._subject}.{method} has to wait for the gateway, and {error}. In a coroutine write `await {self._subject}.a{method}`, "
            f'or have {what} fetched before the hook: needs = ("{need}",) on the class'
        )

    async def aget(self, info: Info) -> bytes | None:
        """Same as `get`, but for coroutines."""
        if info not in self._known:
            await self.afetch((info,))
        return self._known[info]

    def fetch(self, infos: Iterable[Info]) -> None:
        """Send the info requests that were not sent yet, back to back, and keep the replies. Raise WrongContext in a coroutine."""
        missing: list[Info] = []
        for info in infos:
            if info not in self._known and info not in missing:
                missing.append(info)
        if missing:
            self._refuse_spent(missing)
            self._keep(missing, self._io.request_info([ExtraInfoReq(info) for info in missing]))

    async def afetch(self, infos: Iterable[Info]) -> None:
        """Same as `fetch`, but for coroutines. If several tasks of a call need the same reply, one of them sends the request."""
        import asyncio  # takes long to import, and tests of synchronous plugins do not need it

        wanted = list(dict.fromkeys(infos))
        while missing := [info for info in wanted if info not in self._known]:
            pending = self._pending
            if pending is None:
                pending = self._pending = {}
            others = [pending[info] for info in missing if info in pending]
            own = [info for info in missing if info not in pending]
            if own:
                self._refuse_spent(own)
                done = asyncio.get_running_loop().create_future()
                pending.update(dict.fromkeys(own, done))
                try:
                    self._keep(own, await self._io.arequest_info([ExtraInfoReq(info) for info in own]))
                except BaseException:
                    # The request may have been sent, and a second one for a response's body breaks the response.
                    self._spent = self._spent or RespBody() in own
                    raise
                finally:
                    for info in own:
                        del pending[info]
                    done.set_result(None)
            for other in others:
                await asyncio.shield(other)

    def _keep(self, infos: list[Info], replies: list[bytes | None]) -> None:
        for index, info in enumerate(infos):
            self._known[info] = replies[index]

    def _refuse_spent(self, infos: list[Info]) -> None:
        if self._spent and RespBody() in infos:
            raise BodyError("the response's body was requested before, and waiting for it was cancelled; the gateway sends it only once")


# What older releases of APISIX support.

HAS_KEYS = "2.9"
"""The first release that sends a key with each configuration, and the first that replies to info requests."""


def described(info: Info) -> str:
    """Return what an info request is about, as a phrase for a message."""
    if isinstance(info, Var):
        return f"the variable {info.name}"
    return "the request's body" if isinstance(info, ReqBody) else "the response's body"


def unavailable(info: Info, *, in_response: bool) -> str:
    """
    Return the error message for an info request to a gateway that sent its configuration without a key.

    Args:
        in_response: whether it would be sent in ext-plugin-post-resp.
    """
    needed = _first_release(info, in_response=in_response)
    return (
        f"this gateway does not reply to info requests, here for {described(info)}: it sent the configuration without a key, "
        f"so it is older than APISIX {HAS_KEYS}, and an info request would end the call. "
        f"It needs APISIX {needed}: upgrade the gateway, or use only what the request itself contains"
    )


def hang_up(info: Info, *, in_response: bool) -> str:
    """
    Return a message about what it may mean that the gateway closed the connection after an info request.

    Args:
        in_response: whether it was sent in ext-plugin-post-resp.
    """
    text = f"APISIX replies to this info request since {_first_release(info, in_response=in_response)}; an older gateway ends the call"
    if in_response:
        return (
            f"{text}, and the client gets the upstream's body unchanged. "
            "On APISIX 2.14 and 2.15 a plugin can't read or hide a response's body: do not use such plugins on this gateway, or upgrade it"
        )
    if isinstance(info, ReqBody):
        return f"{text}, as every gateway does if the body does not fit into a frame of 16 MiB"
    return text


def _first_release(info: Info, *, in_response: bool) -> str:
    """Return the first release of APISIX that replies to an info request. ext-plugin-post-resp exists since 2.14."""
    if in_response:
        return "3.0"
    return "2.12" if isinstance(info, ReqBody) else HAS_KEYS
