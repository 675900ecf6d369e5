# SPDX-License-Identifier: Apache-2.0
"""Answers are kept, and what is kept is not asked for."""

import pytest

from apisix.runner.http.info_requests import InfoReplies
from apisix.runner.wire.messages import ReqBody, Var
from tests.http.calls import FakeGateway

A, B = Var("a"), Var("b")


def test_only_what_is_missing() -> None:
    """Each question is put once, however often and in whatever company it comes."""
    gateway = FakeGateway({A: b"1"})
    replies = InfoReplies(gateway, "request")
    replies.fetch((A, A))
    replies.fetch((A,))
    replies.fetch((B, A, ReqBody()))
    assert gateway.asked == [[A], [B, ReqBody()]]
    assert (replies.get(A), replies.get(B), replies.get(ReqBody(), "read")) == (b"1", None, None)
    assert list(replies) == [A, B, ReqBody()]


async def test_both_forms_share_them() -> None:
    """What a coroutine fetched is there for the plain form, and the other way round."""
    gateway = FakeGateway({A: b"1"})
    replies = InfoReplies(gateway, "request")
    await replies.afetch((A, B))
    replies.fetch((A, B))
    assert (await replies.aget(A), replies.get(B)) == (b"1", None)
    assert len(gateway.asked) == 1


class Broken(FakeGateway):
    """A gateway that hangs up on the first question."""

    broken = True

    def _answer(self, questions):  # type: ignore[no-untyped-def]  # as in FakeGateway
        if self.broken:
            raise ConnectionError("gone")
        return super()._answer(questions)


async def test_a_question_that_fails() -> None:
    """The error comes through, nothing is kept, and a variable can be asked for again."""
    gateway = Broken({A: b"1"})
    replies = InfoReplies(gateway, "request")
    with pytest.raises(ConnectionError):
        await replies.aget(A)
    assert A not in replies
    gateway.broken = False
    assert await replies.aget(A) == b"1"
