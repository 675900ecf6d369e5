# SPDX-License-Identifier: Apache-2.0
"""Tests with malformed messages: the result is a message or RemoteProtocolError, and nothing is read outside the message."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.connection import Connection, NeedData, Role
from apisix.runner.wire.entries import TextEntries
from apisix.runner.wire.messages import HTTPReqCallReq, Message
from apisix.runner.wire.tables import Table
from tests.wire import reference
from tests.wire.subjects import EXAMPLES, TABLES, as_read, content, golden_frames, message

GOLDEN = [(frame.kind, frame.payload) for frame in golden_frames()] + [(type(message), message.encode()) for message in EXAMPLES]
MALFORMED = "malformed"

# Words that make offsets, lengths and vtables refer to the start, the end, or positions before and after the buffer.
_words = st.one_of(
    st.sampled_from([0, 1, 2, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 0xFFFFFF00, 0x00FFFFFF, 0xFFFF, 0x10000]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2048),
    st.integers(2**32 - 2048, 2**32 - 1),
)


@st.composite
def _mutated(draw: st.DrawFn) -> tuple[type[Message], bytes]:
    """Return a message with a few changed bytes or words. It may be truncated, and have the class of another message."""
    kind, payload = draw(st.sampled_from(GOLDEN))
    data = bytearray(payload)
    for _ in range(draw(st.integers(0, 3))):
        pos = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[pos] = draw(st.integers(0, 255))
        else:
            pos -= pos % 4
            data[pos : pos + 4] = draw(_words).to_bytes(4, "little")
    if draw(st.integers(0, 3)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    if draw(st.integers(0, 7)) == 0:
        kind = draw(st.sampled_from(list(TABLES)))
    return kind, bytes(data)


_subjects = _mutated() | st.tuples(st.sampled_from(list(TABLES)), st.binary(max_size=80))


def _outcome(kind: type[Message], payload: bytes) -> Any:
    """Return the content of a message, all fields included, or MALFORMED."""
    try:
        return content(kind.decode(payload))
    except RemoteProtocolError:
        return MALFORMED


def _reference_outcome(kind: type[Message], payload: bytes) -> Any:
    try:
        return as_read(kind, reference.read(TABLES[kind], payload))
    except reference.Malformed:
        return MALFORMED


@pytest.mark.parametrize(("kind", "payload"), GOLDEN)
def test_the_reference_reads_well_formed_messages(kind: type[Message], payload: bytes) -> None:
    """The reference reads well-formed messages."""
    assert content(kind.decode(payload)) == _reference_outcome(kind, payload)


@given(_subjects)
@example((HTTPReqCallReq, b""))
@example((HTTPReqCallReq, bytes(64)))
@example((HTTPReqCallReq, b"\xff" * 64))
def test_the_same_outcome_as_the_reference(subject: tuple[type[Message], bytes]) -> None:
    """The decoder and the reference return the same values, or both find the message malformed."""
    assert _outcome(*subject) == _reference_outcome(*subject)


@given(_subjects, st.sampled_from([b"\0", b"\xff", b"\x01\x02\x03\x04"]))
def test_bytes_after_a_message_are_not_read(subject: tuple[type[Message], bytes], filling: bytes) -> None:
    """The content of a message does not depend on the bytes that follow it."""
    kind, payload = subject
    outcome = _outcome(kind, payload)
    if outcome != MALFORMED:
        assert _outcome(kind, payload + filling * 16) == outcome


@pytest.mark.parametrize(("kind", "payload"), GOLDEN)
def test_every_truncated_message(kind: type[Message], payload: bytes) -> None:
    """A truncated message has the same outcome as with the reference: the same message if only padding is missing, or malformed."""
    for size in range(max(0, len(payload) - 160), len(payload)):
        assert _outcome(kind, payload[:size]) == _reference_outcome(kind, payload[:size])


def _found(entries: TextEntries, name: str) -> Any:
    """Return the index of a name, or MALFORMED."""
    try:
        return entries.find(name)
    except RemoteProtocolError:
        return MALFORMED


def _reference_found(payload: bytes, field: str, name: str) -> Any:
    try:
        return reference.find(payload, field, name.encode())
    except reference.Malformed:
        return MALFORMED


def _compare_lookups(payload: bytes) -> None:
    try:
        decoded = HTTPReqCallReq.decode(payload)
        found = {name: getattr(decoded, name) for name in ("headers", "args")}
    except RemoteProtocolError:
        return
    for field, entries in found.items():
        for name in ("host", "x", "", "content-type", "host"):
            assert (field, name, _found(entries, name)) == (field, name, _reference_found(payload, field, name))


REQUESTS = [payload for kind, payload in GOLDEN if kind is HTTPReqCallReq]


@given(st.sampled_from(REQUESTS), st.lists(st.tuples(st.integers(0, 2**16), _words), min_size=1, max_size=3))
def test_a_lookup_in_changed_entries(payload: bytes, changes: list[tuple[int, int]]) -> None:
    """A lookup has the same outcome as with the reference: found, missing or malformed."""
    data = bytearray(payload)
    for at, word in changes:
        pos = at % (len(data) - 3) & ~3
        data[pos : pos + 4] = word.to_bytes(4, "little")
    _compare_lookups(bytes(data))


def test_a_lookup_of_an_absent_name_in_a_malformed_vector() -> None:
    """If an offset leads outside the message, the lookup of a missing name is refused instead of returning -1."""
    payload = HTTPReqCallReq(headers=[("host", "a"), ("accept", "b")], args=[("c", None)]).encode()
    for pos in range(0, len(payload), 4):
        for word in (0x7FFFFFF0, 0xFFFFFFFF, len(payload), 0):
            _compare_lookups(payload[:pos] + word.to_bytes(4, "little") + payload[pos + 4 :])


@pytest.mark.parametrize("distance", range(-2, 64))
def test_an_entry_whose_vtable_is_before_the_message(distance: int) -> None:
    """A negative position is never taken for a vtable, not even -1."""
    payload = HTTPReqCallReq(headers=[("host", "a")]).encode()
    table = payload.rindex(b"\xf4\xff\xff\xff")  # the entry's distance to its vtable, -12
    data = payload[:table] + (table + distance).to_bytes(4, "little", signed=True) + payload[table + 4 :]
    assert _outcome(HTTPReqCallReq, data) == _reference_outcome(HTTPReqCallReq, data)
    _compare_lookups(data)


@given(_mutated())
def test_lookup_in_malformed_entries(subject: tuple[type[Message], bytes]) -> None:
    """Lookups and values in malformed entries return a result or raise RemoteProtocolError."""
    kind, payload = subject
    try:
        decoded = kind.decode(payload)
        for entries in (getattr(decoded, name, None) for name in ("headers", "args")):
            if entries is not None:
                for index in range(len(entries)):
                    entries.value(index)
                for name in ("host", "", "x", "content-type"):
                    for ignore_case in (False, True):
                        assert -1 <= entries.find(name, ignore_case=ignore_case) < len(entries)
    except RemoteProtocolError:
        pass


@given(_mutated())
def test_edits_to_malformed_entries(subject: tuple[type[Message], bytes]) -> None:
    """Copying entries without decoding them has the same outcome as decoding them."""
    kind, payload = subject
    try:
        decoded = kind.decode(payload)
        found = [getattr(decoded, name, None) for name in ("headers", "args")]
    except RemoteProtocolError:
        return
    for entries in found:
        if isinstance(entries, TextEntries):
            edits = {"host": None, "x": ("X", "1")}
            try:
                pairs = list(entries)
            except RemoteProtocolError:
                with pytest.raises(RemoteProtocolError):
                    entries.edited(edits, {})
            else:
                assert list(entries.edited(edits, {})) == list(TextEntries(pairs).edited(edits, {}))


@given(_mutated())
def test_repr_and_equality_of_malformed_messages(subject: tuple[type[Message], bytes]) -> None:
    """`repr` and `==` return a result or raise RemoteProtocolError."""
    kind, payload = subject
    try:
        decoded = kind.decode(payload)
        assert isinstance(decoded, Table)
        assert decoded == decoded  # comparing must not raise another error
        assert repr(decoded)
    except RemoteProtocolError:
        pass


@given(st.sampled_from(list(Role)), st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_on_a_connection(role: Role, pieces: list[bytes]) -> None:
    """A connection returns messages until the first error, and after it only raises that error."""
    connection = Connection(role)
    broken = False
    for piece in pieces:
        try:
            connection.receive_data(piece)
            while not isinstance(connection.next_event(), NeedData):
                pass
            assert not broken
        except RemoteProtocolError:
            broken = True


@given(st.sampled_from(GOLDEN), st.binary(max_size=24))
def test_a_payload_from_a_longer_buffer(subject: tuple[type[Message], bytes], around: bytes) -> None:
    """A payload that is sliced from a longer buffer is the same message."""
    kind, payload = subject
    buffer = around + payload + around
    assert content(kind.decode(payload)) == content(kind.decode(buffer[len(around) : len(around) + len(payload)]))


def test_the_fuzz_reaches_both_outcomes() -> None:
    """The mutations produce both readable and malformed messages, or these tests would show nothing."""
    kind, payload = GOLDEN[0]
    outcomes = {_outcome(kind, payload[:pos] + b"\xff" + payload[pos + 1 :]) == MALFORMED for pos in range(len(payload))}
    assert outcomes == {True, False}
    assert message(kind, content(kind.decode(payload))) == kind.decode(payload)
