# SPDX-License-Identifier: Apache-2.0
"""Tests of entries: those in a message and those of a list behave alike, and names are found without decoding."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire.entries import MAX_ENTRIES, EntriesInBuffer, Pair, TextEntries, entries_field, entries_of, names
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPReqCallResp, Rewrite
from tests.oracle import oracle
from tests.wire.subjects import texts

PAIRS: list[Pair] = [
    ("host", "a.example"),
    ("X-Twice", "1"),
    ("x-twice", "2"),
    ("flag", None),
    ("", "nameless"),
    ("empty", ""),
    ("raw\udcff", "\udcfe"),
]

_names = st.sampled_from(["a", "A", "b", "aa", "host", "Host", "", "k\udcff"]) | texts
_pairs = st.lists(st.tuples(_names, st.none() | texts), max_size=8)


def _in_buffer(pairs: list[Pair]) -> EntriesInBuffer:
    """Return the pairs as entries of a decoded message."""
    entries = HTTPReqCallReq.decode(oracle.write("HTTPReqCall.Req", {"headers": pairs})).headers
    assert isinstance(entries, EntriesInBuffer)
    return entries


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _first(pairs: list[Pair], name: bytes, start: int, *, ignore_case: bool) -> int:
    """Find a name by comparing every entry, beginning at `start`."""
    for index, (found, _) in list(enumerate(pairs))[start:]:
        if _bytes(found) == name or (ignore_case and _bytes(found).lower() == name.lower()):
            return index
    return -1


BOTH = pytest.mark.parametrize("entries", [TextEntries(PAIRS), _in_buffer(PAIRS)], ids=["listed", "in-buffer"])


@BOTH
def test_a_sequence(entries: TextEntries) -> None:
    """Length, iteration, positive and negative indices, slices, and `in` are the same as those of the list of pairs."""
    assert len(entries) == len(PAIRS)
    assert list(entries) == PAIRS
    assert [entries[index] for index in range(-len(PAIRS), len(PAIRS))] == PAIRS * 2
    assert entries[1:3] == PAIRS[1:3]
    assert ("flag", None) in entries
    assert entries.decoded() == PAIRS
    assert repr(entries) == repr(PAIRS)
    with pytest.raises(IndexError):
        entries[len(PAIRS)]


@pytest.mark.parametrize("decoded_before", [False, True])
@pytest.mark.parametrize("in_buffer", [False, True])
def test_value(in_buffer: bool, decoded_before: bool) -> None:
    """`value` returns the value at an index, decoded before or not. None means that there is none, "" that it is empty."""
    entries = _in_buffer(PAIRS) if in_buffer else TextEntries(PAIRS)
    if decoded_before:
        entries.decoded()
    assert [entries.value(index) for index in range(-len(PAIRS), len(PAIRS))] == [value for _, value in PAIRS] * 2
    for index in (len(PAIRS), len(PAIRS) + 1, -len(PAIRS) - 1, -len(PAIRS) - 2):
        with pytest.raises(IndexError):
            entries.value(index)


@BOTH
def test_equality(entries: TextEntries) -> None:
    """Entries are equal if their content is equal. They differ from any other object, such as a list."""
    assert entries == TextEntries(PAIRS)
    assert entries == _in_buffer(PAIRS)
    assert TextEntries(PAIRS[1:]) != entries
    assert entries != PAIRS


@given(_pairs, _names, st.integers(0, 9), st.booleans())
def test_find(pairs: list[Pair], name: str, start: int, ignore_case: bool) -> None:
    """`find` returns the same index as a comparison of every entry, in a message and in a list."""
    expected = _first(pairs, _bytes(name), start, ignore_case=ignore_case)
    assert _in_buffer(pairs).find(name, start, ignore_case=ignore_case) == expected
    assert TextEntries(pairs).find(name, start, ignore_case=ignore_case) == expected


@given(_pairs, st.booleans())
def test_find_each_present_name(pairs: list[Pair], ignore_case: bool) -> None:
    """Each present name is found, with the index of its first entry."""
    entries = _in_buffer(pairs)
    for name, _ in pairs:
        assert entries.find(name, ignore_case=ignore_case) == _first(pairs, _bytes(name), 0, ignore_case=ignore_case)


def test_find_is_not_misled_by_values() -> None:
    """A value that contains the bytes of a name, also with its length before it, is not taken for the name."""
    pairs: list[Pair] = [("a", "host"), ("b", "\4\0\0\0host"), ("hos", "t"), ("hostname", "x"), ("host", "found")]
    assert _in_buffer(pairs).find("host") == 4
    assert _in_buffer(pairs[:-1]).find("host") == -1
    assert _in_buffer(pairs[:-1]).find("HOST", ignore_case=True) == -1


@pytest.mark.parametrize("size", range(60, 100))
def test_find_ignoring_case_with_lengths_that_look_like_letters(size: int) -> None:
    """A length of 65 to 90 is the code of a capital letter, but its case is not ignored."""
    assert _in_buffer([("N" * size, "x")]).find("n" * size, ignore_case=True) == 0
    assert _in_buffer([("N" * (size + 32), "x")]).find("n" * size, ignore_case=True) == -1


def test_find_decodes_nothing() -> None:
    """A lookup does not decode the other entries, so a malformed value in one of them raises no error."""
    payload = oracle.write("HTTPReqCall.Req", {"headers": [("a", "broken"), ("b", "fine")]})
    at = payload.index(b"\6\0\0\0broken")
    headers = HTTPReqCallReq.decode(payload[:at] + b"\xff" + payload[at + 1 :]).headers
    assert headers.value(headers.find("b")) == "fine"
    with pytest.raises(RemoteProtocolError, match="do not lie within the message"):
        headers.decoded()


def _sharing(count: int, size: int) -> bytes:
    """Return an HTTPReqCall.Req whose `count` headers are the same table, and whose name and value are the same string of `size` bytes."""
    head = pack("<IiI9H2x", 4, -8, 4 + 20, 18, 8, 0, 0, 0, 0, 0, 4, 0)
    first = len(head) + 4
    table = first + 4 * count
    offsets = b"".join(pack("<I", table - pos) for pos in range(first, table, 4))
    entry = pack("<iII4H", -12, 16, 12, 8, 12, 4, 8) + pack("<I", size) + bytes(size)
    return head + pack("<I", count) + offsets + entry


def test_entries_may_share_tables_and_strings() -> None:
    """Writers may store equal strings or tables once. Each entry counts, and is found."""
    headers = HTTPReqCallReq.decode(_sharing(3, 2)).headers
    assert list(headers) == [("\0\0", "\0\0")] * 3
    assert [headers.find("\0\0", start) for start in range(4)] == [0, 1, 2, -1]


def test_shared_strings_have_a_limit() -> None:
    """Entries whose strings would not fit into a message if they were not shared are refused."""
    assert len(list(HTTPReqCallReq.decode(_sharing(7, 2**20)).headers)) == 7  # 14 MiB
    for count in (9, 60_000):
        headers = HTTPReqCallReq.decode(_sharing(count, 2**20)).headers
        with pytest.raises(RemoteProtocolError, match="unfold"):
            headers.decoded()


def test_more_entries_than_any_gateway_sends() -> None:
    """The number of entries is limited, since the object of an entry needs much more memory than its four bytes."""
    assert len(HTTPReqCallReq.decode(_sharing(MAX_ENTRIES, 0)).headers) == MAX_ENTRIES
    with pytest.raises(RemoteProtocolError, match=f"a vector has {MAX_ENTRIES + 1} entries"):
        _ = HTTPReqCallReq.decode(_sharing(MAX_ENTRIES + 1, 0)).headers


@given(_pairs)
def test_entries_of_one_message_in_another(pairs: list[Pair]) -> None:
    """Entries that were received in one message can be sent in another."""
    forwarded = HTTPReqCallResp(0, Rewrite(headers=_in_buffer(pairs)))
    read = HTTPReqCallResp.decode(forwarded.encode()).action
    assert isinstance(read, Rewrite)
    assert list(read.headers) == pairs


@pytest.mark.parametrize("size", [63, 64, 65, 500])
def test_long_names(size: int) -> None:
    """Long names are written like others, with a value and without."""
    pairs: list[Pair] = [("n" * size, "1"), ("n" * size, None), ("n" * size, "")]
    action = HTTPReqCallResp.decode(HTTPReqCallResp(0, Rewrite(headers=pairs)).encode()).action
    assert action == Rewrite(headers=pairs)


def test_an_entry_without_a_name() -> None:
    """An entry whose name is absent has the name "", and is found by it."""
    entries = entries_field(pack("<iHHHHIIIiHH", -4, 6, 8, 12, 0, 4, 1, 4, -4, 4, 4), 0, 0)
    assert entries.find("") == 0
    assert entries.find("a") == -1
    assert entries.value(0) is None
    assert entries.decoded() == [("", None)]


def test_a_vtable_at_the_very_start() -> None:
    """The root offset, 8, can also be the start of an entry's vtable. Such a message is unusual, but valid."""
    root = pack("<IHH", 8, 4, 8) + pack("<iI9H2x", -8, 4 + 20, 18, 8, 0, 0, 0, 0, 0, 4, 0)
    entry = pack("<iII", 44, 8, 12) + pack("<I4s", 1, b"n") + pack("<I4s", 1, b"v")
    headers = HTTPReqCallReq.decode(root + pack("<II", 1, 4) + entry).headers
    assert headers.find("n") == 0
    assert headers.value(0) == "v"
    assert headers.decoded() == [("n", "v")]


@pytest.mark.parametrize("other", ["ü", "\udcff", "\x7f", "\0"])
def test_texts_of_all_small_sizes(other: str) -> None:
    """Names and values of any length are decoded correctly, with a character that is not ASCII at any position."""
    texts = ["a" * size for size in range(20)]
    texts += [text[:at] + other + text[at + 1 :] for text in texts for at in range(len(text))]
    pairs: list[tuple[str, str | None]] = [(text, text) for text in texts]
    pairs += [(text, None) for text in texts]
    assert _in_buffer(pairs).decoded() == pairs


_HEADERS = st.sampled_from(
    ["a", "A", "bb", "Bb", "Keep-Alive", "\u212aeep-alive", "\u00c4", "\u00e4", "host", "", "k\udcff", "K\udcff", "x" * 70]
)
_edits = st.dictionaries(_HEADERS.map(str.lower), st.none() | st.tuples(_HEADERS, texts), max_size=5)
DROP = names("keep-alive", "bb")


def _edited(pairs: list[Pair], edits: dict[str, tuple[str, str] | None]) -> list[Pair]:
    """Edit headers as a multidict does: the new value replaces the first entry of its name, and the others are removed."""
    kept: list[Pair] = []
    edits = {name: edit for name, edit in edits.items() if _bytes(name) not in DROP}
    for name, value in pairs:
        key = name.lower()
        if key in edits:
            if edit := edits[key]:
                kept.append(edit)
            edits[key] = None
        elif _bytes(key) not in DROP:
            kept.append((name, value or ""))
    return kept + [edit for edit in edits.values() if edit]


@given(st.lists(st.tuples(_HEADERS, st.none() | texts), max_size=8), _edits)
def test_edited(pairs: list[Pair], edits: dict[str, tuple[str, str] | None]) -> None:
    """Edits have the same result in a message and in a list. The arguments are not changed, and the oracle reads the result."""
    expected = _edited(pairs, edits)
    before = edits.copy()
    for entries in (_in_buffer(pairs), TextEntries(pairs)):
        edited = entries.edited(edits, DROP)
        assert (list(edited), len(edited)) == (expected, len(expected))
        payload = HTTPReqCallResp(0, Rewrite(headers=edited)).encode()
        read = oracle.read("HTTPReqCall.Resp", payload)["action"]
        assert (read[1].get("headers") or []) == expected
        assert list(entries) == pairs
    assert (edits, DROP) == (before, names("keep-alive", "bb"))


def test_edited_copies_bytes() -> None:
    """The bytes of an unedited header are copied without decoding them. Those of a deleted header are not sent."""
    payload = oracle.write("HTTPReqCall.Req", {"headers": [("a", "\udcff\udc80"), ("secret", "s3cret"), ("b", "3")]})
    out = bytearray()
    HTTPReqCallReq.decode(payload).headers.edited({"secret": None}, {}).put(out)
    assert (out.count(b"\xff\x80"), out.count(b"s3cret")) == (1, 0)


def test_edited_has_the_limit_of_shared_strings() -> None:
    """Entries whose strings would not fit into a message if they were not shared are refused before they are written."""
    with pytest.raises(RemoteProtocolError, match="unfold"):
        HTTPReqCallReq.decode(_sharing(60_000, 2**20)).headers.edited({}, DROP)


def test_a_text_in_an_edit_that_cannot_be_sent() -> None:
    """A lone surrogate in an edit raises LocalProtocolError, in a message and in a list."""
    for entries in (_in_buffer([("a", "1")]), entries_of([("a", "1")])):
        with pytest.raises(LocalProtocolError):
            entries.edited({"a": ("a", "\ud800")}, {}).put(bytearray())
