# SPDX-License-Identifier: Apache-2.0
"""Tests of info replies: they are kept, and nothing is requested twice."""

import pytest

from apisix.runner.http.info_requests import InfoReplies
from apisix.runner.wire.messages import ReqBody, Var
from tests.http.calls import FakeGateway

A, B = Var("a"), Var("b")


def test_only_what_is_missing() -> None:
    """Each info request is sent once, however often it is fetched."""
    gateway = FakeGateway({A: b"1"})
    replies = InfoReplies(gateway, "request")
    replies.fetch((A, A))
    replies.fetch((A,))
    replies.fetch((B, A, ReqBody()))
    assert gateway.asked == [[A], [B, ReqBody()]]
    assert (replies.get(A), replies.get(B), replies.get(ReqBody(), "read")) == (b"1", None, None)
    assert list(replies) == [A, B, ReqBody()]


async def test_both_forms_share_them() -> None:
    """`fetch` and `afetch` share the replies."""
    gateway = FakeGateway({A: b"1"})
    replies = InfoReplies(gateway, "request")
    await replies.afetch((A, B))
    replies.fetch((A, B))
    assert (await replies.aget(A), replies.get(B)) == (b"1", None)
    assert len(gateway.asked) == 1


class Broken(FakeGateway):
    """A gateway that closes the connection after the first info request."""

    broken = True

    def _reply(self, requests):  # type: ignore[no-untyped-def]  # as in FakeGateway
        if self.broken:
            raise ConnectionError("gone")
        return super()._reply(requests)


async def test_an_info_request_that_fails() -> None:
    """The error is raised, nothing is kept, and the variable can be requested again."""
    gateway = Broken({A: b"1"})
    replies = InfoReplies(gateway, "request")
    with pytest.raises(ConnectionError):
        await replies.aget(A)
    assert A not in replies
    gateway.broken = False
    assert await replies.aget(A) == b"1"
