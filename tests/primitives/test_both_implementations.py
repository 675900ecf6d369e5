# SPDX-License-Identifier: Apache-2.0
"""The C implementation of each primitive and its Python fallback return the same, or raise the same error, for the same arguments."""

import contextvars
import os
import socket
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apisix.runner import primitives
from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire.messages import HTTPReqCallReq
from tests.primitives.compiling import CannotCompile, compiled_primitives
from tests.wire.subjects import EXAMPLES, golden_frames

EXPECTED_ERRORS = (RemoteProtocolError, LocalProtocolError, IndexError, KeyError, TypeError)


@pytest.fixture(scope="session")
def in_c() -> ModuleType:
    """The C implementation. Skipped if it can't be compiled here, unless APISIX_RUNNER_BUILD requires a compiler."""
    try:
        return compiled_primitives()
    except CannotCompile as error:
        if os.environ.get("APISIX_RUNNER_BUILD") == "require":
            raise
        pytest.skip(f"the primitives can't be compiled here: {error}")


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function. Return its result and the type of the result, or the error, and the mutable arguments after the call."""
    given_arguments = tuple(copy(argument) if isinstance(argument, bytearray | dict) else argument for argument in arguments)
    try:
        result = function(*given_arguments)
    except EXPECTED_ERRORS as error:
        # What an interrupted write leaves behind is never sent.
        return type(error), str(error) if isinstance(error, RemoteProtocolError | LocalProtocolError) else ""
    result = int(result) if isinstance(result, bool) else result
    return type(result), result, [argument for argument in given_arguments if isinstance(argument, bytearray | dict)]


def compare(in_c: ModuleType, name: str, *arguments: Any) -> None:
    """Call both implementations."""
    assert outcome(getattr(in_c, name), arguments) == outcome(getattr(primitives, name), arguments), name


# Buffers: well-formed messages, mutated ones, and any bytes.

PAYLOADS = [frame.payload for frame in golden_frames()] + [message.encode() for message in EXAMPLES]
WORDS = st.sampled_from([0, 1, 3, 4, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 0xFFFFFFF0, 0xFFFF]) | st.integers(0, 2**32 - 1)


@st.composite
def mutated_payloads(draw: st.DrawFn) -> bytes:
    """Take a message, change a few of its words or bytes, and perhaps cut its end off."""
    data = bytearray(draw(st.sampled_from(PAYLOADS)))
    for _ in range(draw(st.integers(0, 4))):
        pos = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[pos] = draw(st.integers(0, 255))
        else:
            pos -= pos % 4
            data[pos : pos + 4] = draw(WORDS | st.integers(0, len(data))).to_bytes(4, "little")
    if draw(st.integers(0, 3)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


BUFFERS = mutated_payloads() | st.binary(max_size=64)
POSITIONS = st.integers(-8, 300) | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, -(2**31), -(2**40)])
SLOTS = st.integers(0, 16)
NAMES = st.sampled_from(["host", "HOST", "x", "", "content-type", "x" * 70, "é", "\udcff", "\ud800"]) | st.text(max_size=6)
READERS = ("u8_at", "u16_at", "u32_at", "i32_at", "network_u32_at", "target_at", "bytes_at", "text_at", "table_count")
ENTRY_READERS = ("entry_at", "entry_value")


@pytest.mark.parametrize("name", [*READERS, *ENTRY_READERS])
@given(buf=BUFFERS, pos=POSITIONS)
def test_readers(in_c: ModuleType, name: str, buf: bytes, pos: int) -> None:
    """Whatever a buffer contains, and whatever position is read, inside or outside."""
    compare(in_c, name, buf, pos)


@given(BUFFERS, POSITIONS, POSITIONS, SLOTS)
def test_parts_and_fields(in_c: ModuleType, buf: bytes, start: int, end: int, slot: int) -> None:
    """Parts of bytes and of a bytearray, frame headers in both, and each field of a table."""
    compare(in_c, "part_at", buf, start, end)
    compare(in_c, "part_at", bytearray(buf), start, end)
    compare(in_c, "network_u32_at", bytearray(buf), start)
    compare(in_c, "field_at", buf, start, slot)
    compare(in_c, "key_at", buf, start, end, 0)
    compare(in_c, "key_at", buf, start, end, 2**64 - 1)
    compare(in_c, "key_at", buf, start, end, primitives.length_bit(4))


def vectors(buf: bytes) -> Iterator[tuple[int, int]]:
    """Yield each position of a buffer that can be read as a vector of tables: the position of the first offset, and their number."""
    for pos in range(0, len(buf) - 3, 4):
        count = primitives.u32_at(buf, pos)
        if count > 0 and pos + 4 + 4 * count <= len(buf):
            yield pos + 4, count


@given(BUFFERS, NAMES, st.integers(0, 3), st.integers(0, 2000))
def test_entries(in_c: ModuleType, buf: bytes, name: str, start: int, limit: int) -> None:
    """Each position of a buffer that can be a vector of entries is searched and read as one."""
    for first, count in vectors(buf):
        for ignore_case in (False, True):
            compare(in_c, "entry_index", buf, first, start, count, name, ignore_case)
        compare(in_c, "entries_at", buf, first, count, limit)
        compare(in_c, "entries_at", buf, first, count, 2**24)


@given(BUFFERS, POSITIONS, st.integers(0, 2**32), NAMES, st.booleans())
def test_entries_anywhere(in_c: ModuleType, buf: bytes, first: int, count: int, name: str, ignore_case: bool) -> None:
    """A vector of entries that was never checked, with any number of entries: reading ends at the first one that lies outside."""
    compare(in_c, "entry_index", buf, first, 0, count, name, ignore_case)
    compare(in_c, "entries_at", buf, first, count, 2**24)


@pytest.mark.parametrize("word", [0, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFC, 0xFFFFFFFF])
def test_each_word_of_a_request_in_turn(in_c: ModuleType, word: int) -> None:
    """Each word is replaced by an offset to another place: the start, beyond the end, before the message, or the middle of something."""
    payload = HTTPReqCallReq(headers=[("host", "a"), ("accept", "b")], args=[("c", None)]).encode()
    for pos in range(0, len(payload), 4):
        changed = payload[:pos] + word.to_bytes(4, "little") + payload[pos + 4 :]
        for start in range(0, len(payload), 2):
            for name in (*READERS, *ENTRY_READERS):
                compare(in_c, name, changed, start)
            for slot in range(8):
                compare(in_c, "field_at", changed, start, slot)
        for first, count in vectors(changed):
            compare(in_c, "entries_at", changed, first, count, 2**24)


# Writing.

TEXTS = st.text(max_size=12) | st.sampled_from(["", "a", "host", "é", "\udcff", "\ud800", "a\ud800", "\udc7f", "x" * 64, "\0", "𐀀"])
MESSAGES = st.binary(max_size=40).map(bytearray)
NUMBERS = st.sampled_from([-1, 0, 1, 2**32 - 1, 2**32, 2**63 - 1]) | st.integers(0, 2**32)
PLACES = st.integers(-5, 45)
PAIRS = st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=4)


@given(MESSAGES, PLACES, NUMBERS, st.binary(max_size=40))
def test_numbers_and_parts(in_c: ModuleType, out: bytearray, place: int, number: int, part: bytes) -> None:
    """Numbers that fit and numbers that do not, at positions inside and outside the message."""
    for name in ("set_number", "set_offset", "set_network_u32"):
        compare(in_c, name, out, place, number)
    compare(in_c, "set_number", out, place, number * 2**40)
    compare(in_c, "set_part", out, place, part)
    compare(in_c, "append_part", out, part)
    compare(in_c, "append_bytes", out, part)
    compare(in_c, "new_message", part)
    compare(in_c, "append_offsets", out, len(part))


@given(MESSAGES, PLACES, TEXTS, st.none() | TEXTS, PAIRS)
@example(bytearray(4), 0, "\ud800", "\udfff", [("\ud800", "a"), ("a", "\ud800")])
def test_strings_and_entries(in_c: ModuleType, out: bytearray, place: int, name: str, value: str | None, pairs: list[Any]) -> None:
    """Texts of any kind: of ASCII, of others, with the surrogates of received bytes, and with surrogates that can't be sent."""
    compare(in_c, "encode_text", name)
    compare(in_c, "append_text", out, name)
    compare(in_c, "append_entry", out, place, name, value)
    compare(in_c, "append_entries", out, pairs)
    compare(in_c, "append_entries", out, [list(pair) for pair in pairs])


@given(BUFFERS, MESSAGES, PLACES, st.lists(POSITIONS, min_size=4, max_size=4))
def test_received_entries(in_c: ModuleType, buf: bytes, out: bytearray, place: int, positions: list[int]) -> None:
    """Entries that lie within the buffer are copied; positions outside are refused."""
    compare(in_c, "append_received_entry", out, place, buf, *positions)
    compare(in_c, "append_received_entry", out, place, buf, *sorted(positions))


@pytest.mark.parametrize("size", range(70))
def test_each_size(in_c: ModuleType, size: int) -> None:
    """Padding, the words in which texts are searched, and the bytes after the last word."""
    for character in ("a", "Z", "@", "[", "\x1f", "\x7f", "\t", "é", "\udcff"):
        for at in {0, size // 2, max(0, size - 1)}:
            text = ("a" * size)[:at] + character + ("a" * size)[at + 1 :]
            encoded = text.encode("utf-8", "surrogateescape")
            compare(in_c, "append_text", bytearray(), text)
            compare(in_c, "append_bytes", bytearray(), encoded)
            compare(in_c, "text_at", len(encoded).to_bytes(4, "little") + encoded, 0)
            compare(in_c, "key_at", encoded, 0, len(encoded), 2**64 - 1)
            for name in ("is_ascii", "is_lower", "is_plain", "is_token", "first_letter"):
                compare(in_c, name, text)


# Texts and dicts.


class Text(str):
    """A string of a subclass."""

    __slots__ = ()


OBJECTS = TEXTS | st.characters(max_codepoint=300) | TEXTS.map(Text) | st.none() | st.binary(max_size=4) | st.integers()


@given(OBJECTS, st.sampled_from(["te", "connection", "content-length"]), st.characters(max_codepoint=300))
def test_texts(in_c: ModuleType, text: Any, lower: str, character: str) -> None:
    """Checks of texts and of objects that are none."""
    for name in ("is_plain", "is_token", "first_letter"):
        compare(in_c, name, text)
    for name in ("is_ascii", "is_lower"):
        if isinstance(text, str):
            compare(in_c, name, text)
    for candidate in (text, lower, lower.upper(), lower.title(), lower[:-1] + character, character + lower[1:]):
        compare(in_c, "is_name", candidate, lower)


def test_each_character(in_c: ModuleType) -> None:
    """All characters up to U+0180, alone and within a longer text."""
    for code in range(0x180):
        for text in (chr(code), f"abcdefg{chr(code)}hijklmn", f"ABCDEFGHIJ{chr(code)}"):
            for name in ("is_ascii", "is_lower", "is_plain", "is_token", "first_letter"):
                compare(in_c, name, text)


KEYS = st.sampled_from(["a", "B", "c"])


@given(st.dictionaries(KEYS, KEYS), KEYS | st.just([]), st.lists(st.tuples(KEYS, KEYS), max_size=4))
def test_dicts(in_c: ModuleType, mapping: dict[str, str], key: Any, pairs: list[tuple[str, str]]) -> None:
    """Reading, editing, filling, and comparing with pairs, also with a key of an invalid type."""
    compare(in_c, "dict_get", mapping, key, None)
    compare(in_c, "dict_contains", mapping, key)
    compare(in_c, "dict_set", mapping, key, "value")
    compare(in_c, "dict_delete", mapping, key)
    compare(in_c, "dict_items", mapping)
    compare(in_c, "dict_fill", {}, pairs)
    compare(in_c, "dict_changes", mapping, pairs)
    compare(in_c, "dict_changes", mapping, list(mapping.items()))
    compare(in_c, "dict_changes", {**dict(pairs), "d": "added"}, pairs)
    compare(in_c, "dict_changes", dict(pairs), [("".join(["", *name]), value) for name, value in pairs])


# Sockets, time, contexts.


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that do not block."""
    first, second = socket.socketpair()
    with first, second:
        first.setblocking(False)
        second.setblocking(False)
        yield first, second


@pytest.fixture(params=["C", "Python"])
def implementation(request: pytest.FixtureRequest) -> Any:
    """Each of the two implementations."""
    return request.getfixturevalue("in_c") if request.param == "C" else primitives


def test_sockets(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    """Bytes are transferred. No data, a full socket, the end of the stream, and a closed peer are distinguished."""
    here, there = pair
    buffer = bytearray(8)
    assert implementation.receive_into(here, here.fileno(), buffer) == -1
    assert implementation.receive(here, here.fileno(), 8) is None
    assert implementation.send(there, there.fileno(), bytearray(b"abcdefghij")) == 10
    assert implementation.receive_into(here, here.fileno(), buffer) == 8
    assert bytes(buffer) == b"abcdefgh"
    assert implementation.receive(here, here.fileno(), 8) == b"ij"
    while sent := implementation.send(there, there.fileno(), bytearray(2**16)):
        assert sent <= 2**16
    while (data := implementation.receive(here, here.fileno(), 2**20)) is not None:
        assert set(data) == {0}
    there.close()
    assert implementation.receive_into(here, here.fileno(), buffer) == 0
    assert implementation.receive(here, here.fileno(), 8) == b""
    with pytest.raises(BrokenPipeError):
        implementation.send(here, here.fileno(), bytearray(b"a"))


def test_a_socket_that_was_closed(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    """System errors are OSError."""
    here, _ = pair
    descriptor = here.fileno()
    here.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        implementation.receive_into(here, descriptor, bytearray(8))
    with pytest.raises(OSError, match="Bad file descriptor"):
        implementation.receive(here, descriptor, 8)
    with pytest.raises(OSError, match="Bad file descriptor"):
        implementation.send(here, descriptor, bytearray(8))


def test_time_and_variables(implementation: Any) -> None:
    """The clock does not run backwards, and a variable has the value that was set."""
    before_s = implementation.now_s()
    assert before_s <= primitives.now_s()
    variable = contextvars.ContextVar("variable", default=0)

    def set_it() -> int:
        implementation.set_variable(variable, 1)
        return variable.get()

    assert contextvars.copy_context().run(set_it) == 1
    assert variable.get() == 0


def test_contexts(in_c: ModuleType) -> None:
    """In C, a context can be entered and left. The fallback can't do that, and reports it."""
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    assert (in_c.HAS_CONTEXTS, primitives.CAN_ENTER) == (1, False)
    in_c.enter_context(context)
    variable.set(1)
    in_c.leave_context(context)
    assert (variable.get(), context[variable]) == (0, 1)
    for function in (primitives.enter_context, primitives.leave_context):
        with pytest.raises(NotImplementedError):
            function(context)


def test_each_primitive_is_compared() -> None:
    """If a primitive is added, it must be added to this test too."""
    text = Path(__file__).read_text("utf-8")
    assert [name for name in primitives.__all__ if f'"{name}"' not in text and f".{name}(" not in text] == []
