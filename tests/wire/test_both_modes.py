# SPDX-License-Identifier: Apache-2.0
"""The compiled readers and the Python sources read the same values from every buffer, or raise the same error."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.compiled import VARIABLE, why_pure
from apisix.runner.wire.messages import HTTPReqCallReq, Message
from tests.wire.outcomes import KINDS, outcomes
from tests.wire.test_malformed import GOLDEN, _mutated

Reader = Callable[[type[Message], bytes], list[str]]

pytestmark = pytest.mark.skipif(why_pure() is not None, reason=f"nothing to compare with: {why_pure()}")


@pytest.fixture(scope="module")
def read_by_sources() -> Iterator[Reader]:
    """A function that reads a message in another process, which runs the Python sources."""
    environ = {**os.environ, VARIABLE: "1"}
    process = subprocess.Popen([sys.executable, "-m", "tests.wire.outcomes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
    assert process.stdin is not None
    assert process.stdout is not None
    requests, replies = process.stdin, process.stdout

    def read(kind: type[Message], payload: bytes) -> list[str]:
        requests.write(KINDS.index(kind).to_bytes(4, "little") + len(payload).to_bytes(4, "little") + payload)
        requests.flush()
        found: list[str] = ast.literal_eval(replies.readline().decode())
        return found

    yield read
    requests.close()
    process.wait(10)
    replies.close()


@given(_mutated() | st.tuples(st.sampled_from(KINDS), st.binary(max_size=80)))
def test_a_mutated_message(read_by_sources: Reader, subject: tuple[type[Message], bytes]) -> None:
    """Fields, lookups with and without case, values by index, and edits: each has the same outcome in both modes."""
    assert outcomes(*subject) == read_by_sources(*subject)


@pytest.mark.parametrize("word", [0, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF])
def test_each_word_of_a_request_in_turn(read_by_sources: Reader, word: int) -> None:
    """Each word is replaced by an offset to the start, past the end, before the message, or into the middle."""
    payload = HTTPReqCallReq(headers=[("host", "a"), ("accept", "b")], args=[("c", None)]).encode()
    for pos in range(0, len(payload), 4):
        changed = payload[:pos] + word.to_bytes(4, "little") + payload[pos + 4 :]
        assert outcomes(HTTPReqCallReq, changed) == read_by_sources(HTTPReqCallReq, changed)


@pytest.mark.parametrize("distance", range(-2, 64))
def test_each_position_of_a_vtable(read_by_sources: Reader, distance: int) -> None:
    """The vtable of an entry is at each byte of the message, and before it."""
    payload = HTTPReqCallReq(headers=[("host", "a")]).encode()
    table = payload.rindex(b"\xf4\xff\xff\xff")  # the entry's distance to its vtable, -12
    changed = payload[:table] + (table + distance).to_bytes(4, "little", signed=True) + payload[table + 4 :]
    assert outcomes(HTTPReqCallReq, changed) == read_by_sources(HTTPReqCallReq, changed)


def test_each_recorded_message(read_by_sources: Reader) -> None:
    """Well-formed messages have the same outcome in both modes."""
    for kind, payload in GOLDEN:
        assert outcomes(kind, payload) == read_by_sources(kind, payload)
