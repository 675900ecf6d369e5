# SPDX-License-Identifier: Apache-2.0
"""Questions to the gateway in the middle of a call: how they are sent (injected) and the answers that are already there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from apisix.runner.errors import BodyError, WrongContext
from apisix.runner.wire.messages import ExtraInfoReq, ReqBody, RespBody, Var

if TYPE_CHECKING:
    import asyncio

Info = Var | ReqBody | RespBody


class Asking(Protocol):
    """The I/O behind a request or response: whoever runs the call gives it."""

    def request_info(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """
        Send the questions back to back and return their answers, in order.

        Raises: WrongContext: called in a coroutine, where waiting would stop the event loop.
        """

    async def arequest_info(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """Do the same as `request_info` in a coroutine, in any task of the call's loop."""

    def offload(self, work: Callable[[], Any]) -> Any:
        """
        Return what `work` returns, without holding up the event loop: work that takes long is run in a thread.

        Raises: WrongContext: called in a coroutine, where waiting would stop the event loop. Whatever `work` raises.
        """

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        """Same as `offload`, but in a coroutine."""


class Answers:
    """
    The answers to one call's questions. Nothing is asked twice, empty answers are answers too.

    Shared by all copies of a request. Source: gateway contract, 6: asking for a response's body twice breaks the response.

    Attributes:
        decompressed: the response's body without its content-encoding, or why there is none; None until somebody has read it.
    """

    __slots__ = ("_asking", "_known", "_pending", "_spent", "decompressed")

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._known: dict[Info, bytes | None] = {}
        self._pending: dict[Info, asyncio.Future[None]] | None = None
        self._spent = False
        self.decompressed: bytes | BodyError | None = None

    def __contains__(self, info: Info) -> bool:
        return info in self._known

    def __iter__(self) -> Iterator[Info]:
        return iter(self._known)

    def get(self, info: Info, accessor: str) -> bytes | None:
        """
        Return the answer, asking where it is not known yet.

        Args: accessor: what the author wrote, such as `request.read()`; its twin is named when this is a coroutine.
        Raises: WrongContext: it has to be asked for, in a coroutine.
        """
        if info not in self._known:
            try:
                self.fetch((info,))
            except WrongContext as error:
                subject, _, method = accessor.partition(".")
                need = f"var({info.name!r})" if isinstance(info, Var) else "the body"
                name = info.name if isinstance(info, Var) else "body"
                raise WrongContext(
                    f"{accessor} has to wait for the gateway, and {error}. In a coroutine write `await {subject}.a{method}`, "
                    f'or have {need} fetched before the hook: needs = ("{name}",) on the class'
                ) from None
        return self._known[info]

    async def aget(self, info: Info) -> bytes | None:
        """Return the answer, waiting for it in a coroutine where it is not known yet."""
        if info not in self._known:
            await self.afetch((info,))
        return self._known[info]

    def fetch(self, infos: Iterable[Info]) -> None:
        """Ask what is not known yet, back to back."""
        missing = [info for info in dict.fromkeys(infos) if info not in self._known]
        if not missing:
            return
        self._refuse_spent(missing)
        self._keep(missing, self._asking.request_info([ExtraInfoReq(info) for info in missing]))

    async def afetch(self, infos: Iterable[Info]) -> None:
        """Do the same as `fetch` in a coroutine. Several tasks of one call may want the same: one of them asks."""
        import asyncio  # the only user, and heavy: a synchronous plugin's test does not pay for it

        wanted = list(dict.fromkeys(infos))
        while missing := [info for info in wanted if info not in self._known]:
            pending = self._pending
            if pending is None:
                pending = self._pending = {}
            others = [pending[info] for info in missing if info in pending]
            own = [info for info in missing if info not in pending]
            if own:
                self._refuse_spent(own)
                asked = asyncio.get_running_loop().create_future()
                pending.update(dict.fromkeys(own, asked))
                try:
                    self._keep(own, await self._asking.arequest_info([ExtraInfoReq(info) for info in own]))
                except BaseException:
                    # The question may be on its way, and a second one for a response's body breaks the response.
                    self._spent = self._spent or RespBody() in own
                    raise
                finally:
                    for info in own:
                        del pending[info]
                    asked.set_result(None)
            for other in others:
                await asyncio.shield(other)

    def _keep(self, infos: Sequence[Info], answers: Sequence[bytes | None]) -> None:
        self._known.update(zip(infos, answers, strict=True))

    def _refuse_spent(self, infos: Sequence[Info]) -> None:
        if self._spent and RespBody() in infos:
            raise BodyError("the response's body was asked for and the wait for it broken off; the gateway gives it only once")
