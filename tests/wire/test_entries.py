# SPDX-License-Identifier: Apache-2.0
"""Entries in a buffer and entries from a list are the same sequence; names are found without decoding."""

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
    """Find a name the slow way, by looking at every entry from `start` on."""
    for index, (found, _) in list(enumerate(pairs))[start:]:
        if _bytes(found) == name or (ignore_case and _bytes(found).lower() == name.lower()):
            return index
    return -1


BOTH = pytest.mark.parametrize("entries", [TextEntries(PAIRS), _in_buffer(PAIRS)], ids=["listed", "in-buffer"])


@BOTH
def test_a_sequence(entries: TextEntries) -> None:
    """Length, iteration, indices from both ends, slices, and membership are those of the list of pairs."""
    assert len(PAIRS) == len(entries)
    assert list(entries) == PAIRS
    assert [entries[index] for index in range(-len(PAIRS), len(PAIRS))] == PAIRS * 2
    assert entries[1:3] == PAIRS[1:3]
    assert ("flag", None) in entries
    assert PAIRS == entries.decoded()
    assert repr(PAIRS) == repr(entries)
    with pytest.raises(IndexError):
        entries[len(PAIRS)]


@pytest.mark.parametrize("decoded_before", [False, True])
@pytest.mark.parametrize("in_buffer", [False, True])
def test_value(in_buffer: bool, decoded_before: bool) -> None:
    """A value is had by its index, whether or not the entries have been decoded; None is no value, and not an empty one."""
    entries = _in_buffer(PAIRS) if in_buffer else TextEntries(PAIRS)
    if decoded_before:
        entries.decoded()
    assert [value for _, value in PAIRS] * 2 == [entries.value(index) for index in range(-len(PAIRS), len(PAIRS))]
    for index in (len(PAIRS), len(PAIRS) + 1, -len(PAIRS) - 1, -len(PAIRS) - 2):
        with pytest.raises(IndexError):
            entries.value(index)


@BOTH
def test_equality(entries: TextEntries) -> None:
    """Entries are equal by content, wherever they are kept, and to no other kind of object."""
    assert TextEntries(PAIRS) == entries
    assert _in_buffer(PAIRS) == entries
    assert TextEntries(PAIRS[1:]) != entries
    assert entries != PAIRS


@given(_pairs, _names, st.integers(0, 9), st.booleans())
def test_find(pairs: list[Pair], name: str, start: int, ignore_case: bool) -> None:
    """A name is found where the slow way finds it, from any index on, in a buffer and in a list."""
    expected = _first(pairs, _bytes(name), start, ignore_case=ignore_case)
    assert expected == _in_buffer(pairs).find(_bytes(name), start, ignore_case=ignore_case)
    assert expected == TextEntries(pairs).find(_bytes(name), start, ignore_case=ignore_case)


@given(_pairs, st.booleans())
def test_find_every_name_that_is_there(pairs: list[Pair], ignore_case: bool) -> None:
    """Each name that is there is found, at its first place."""
    entries = _in_buffer(pairs)
    for name, _ in pairs:
        assert _first(pairs, _bytes(name), 0, ignore_case=ignore_case) == entries.find(_bytes(name), ignore_case=ignore_case)


def test_find_is_not_misled_by_values() -> None:
    """A value with the bytes of the name, with its length in front, is no entry of that name."""
    pairs: list[Pair] = [("a", "host"), ("b", "\4\0\0\0host"), ("hos", "t"), ("hostname", "x"), ("host", "found")]
    assert 4 == _in_buffer(pairs).find(b"host")
    assert -1 == _in_buffer(pairs[:-1]).find(b"host")
    assert -1 == _in_buffer(pairs[:-1]).find(b"HOST", ignore_case=True)


@pytest.mark.parametrize("size", range(60, 100))
def test_find_ignoring_case_with_lengths_that_look_like_letters(size: int) -> None:
    """A length of 65 to 90 looks like a capital letter: it is compared as a number all the same."""
    assert 0 == _in_buffer([("N" * size, "x")]).find(b"n" * size, ignore_case=True)
    assert -1 == _in_buffer([("N" * (size + 32), "x")]).find(b"n" * size, ignore_case=True)


def test_find_decodes_nothing() -> None:
    """Looking up a name leaves the entries in the buffer: a malformed value elsewhere does no harm."""
    payload = oracle.write("HTTPReqCall.Req", {"headers": [("a", "broken"), ("b", "fine")]})
    at = payload.index(b"\6\0\0\0broken")
    headers = HTTPReqCallReq.decode(payload[:at] + b"\xff" + payload[at + 1 :]).headers
    assert "fine" == headers.value(headers.find(b"b"))
    with pytest.raises(RemoteProtocolError, match="do not lie within the message"):
        headers.decoded()


def _sharing(count: int, size: int) -> bytes:
    """Return an HTTPReqCall.Req with `count` headers that are all one table: a name and a value of `size` bytes, one string for both."""
    head = pack("<IiI9H2x", 4, -8, 4 + 20, 18, 8, 0, 0, 0, 0, 0, 4, 0)
    first = len(head) + 4
    table = first + 4 * count
    offsets = b"".join(pack("<I", table - pos) for pos in range(first, table, 4))
    entry = pack("<iII4H", -12, 16, 12, 8, 12, 4, 8) + pack("<I", size) + bytes(size)
    return head + pack("<I", count) + offsets + entry


def test_entries_may_share_what_they_refer_to() -> None:
    """Writers may store equal strings, or tables, once: each entry still counts, and is found."""
    headers = HTTPReqCallReq.decode(_sharing(3, 2)).headers
    assert [("\0\0", "\0\0")] * 3 == list(headers)
    assert [0, 1, 2, -1] == [headers.find(b"\0\0", start) for start in range(4)]


def test_entries_that_would_unfold_without_bound() -> None:
    """Sixty thousand entries that share a megabyte would unfold to 120 GB: what would not fit a message unshared is refused."""
    assert 7 == len(list(HTTPReqCallReq.decode(_sharing(7, 2**20)).headers))  # 14 MiB
    for count in (9, 60_000):
        headers = HTTPReqCallReq.decode(_sharing(count, 2**20)).headers
        with pytest.raises(RemoteProtocolError, match="unfold"):
            headers.decoded()


def test_more_entries_than_any_gateway_sends() -> None:
    """The number of entries is bounded, since each costs many times its four bytes."""
    assert MAX_ENTRIES == len(HTTPReqCallReq.decode(_sharing(MAX_ENTRIES, 0)).headers)
    with pytest.raises(RemoteProtocolError, match=f"a vector has {MAX_ENTRIES + 1} entries"):
        _ = HTTPReqCallReq.decode(_sharing(MAX_ENTRIES + 1, 0)).headers


@given(_pairs)
def test_entries_of_one_message_in_another(pairs: list[Pair]) -> None:
    """Entries that came in one message can be sent in another."""
    forwarded = HTTPReqCallResp(0, Rewrite(headers=_in_buffer(pairs)))
    read = HTTPReqCallResp.decode(forwarded.encode()).action
    assert isinstance(read, Rewrite)
    assert pairs == list(read.headers)


@pytest.mark.parametrize("size", [63, 64, 65, 500])
def test_long_names(size: int) -> None:
    """Names that are too long to be kept encoded are written like the others, with a value and without."""
    pairs: list[Pair] = [("n" * size, "1"), ("n" * size, None), ("n" * size, "")]
    action = HTTPReqCallResp.decode(HTTPReqCallResp(0, Rewrite(headers=pairs)).encode()).action
    assert Rewrite(headers=pairs) == action


def test_an_entry_without_a_name() -> None:
    """An entry whose name is absent has an empty one, and is found by it; even in a buffer in which no four zeros say so."""
    entries = entries_field(pack("<iHHHHIIIiHH", -4, 6, 8, 12, 0, 4, 1, 4, -4, 4, 4), 0, 0)
    assert 0 == entries.find(b"")
    assert -1 == entries.find(b"a")
    assert entries.value(0) is None
    assert [("", None)] == entries.decoded()


def test_a_vtable_at_the_very_start() -> None:
    """The root offset, eight, can also be an entry's vtable: such a buffer is odd, but its entries are read like others."""
    root = pack("<IHH", 8, 4, 8) + pack("<iI9H2x", -8, 4 + 20, 18, 8, 0, 0, 0, 0, 0, 4, 0)
    entry = pack("<iII", 44, 8, 12) + pack("<I4s", 1, b"n") + pack("<I4s", 1, b"v")
    headers = HTTPReqCallReq.decode(root + pack("<II", 1, 4) + entry).headers
    assert 0 == headers.find(b"n")
    assert "v" == headers.value(0)
    assert [("n", "v")] == headers.decoded()


@pytest.mark.parametrize("other", ["ü", "\udcff", "\x7f", "\0"])
def test_texts_of_all_small_sizes(other: str) -> None:
    """A character that is not ASCII is found wherever it stands, and names and values of any length are written and read alike."""
    texts = ["a" * size for size in range(20)]
    texts += [text[:at] + other + text[at + 1 :] for text in texts for at in range(len(text))]
    pairs: list[tuple[str, str | None]] = [(text, text) for text in texts]
    pairs += [(text, None) for text in texts]
    assert pairs == _in_buffer(pairs).decoded()


_HEADERS = st.sampled_from(
    ["a", "A", "bb", "Bb", "Keep-Alive", "\u212aeep-alive", "\u00c4", "\u00e4", "host", "", "k\udcff", "K\udcff", "x" * 70]
)
_edits = st.dictionaries(_HEADERS.map(str.lower), st.none() | st.tuples(_HEADERS, texts), max_size=5)
DROP = names("keep-alive", "bb")


def _edited(pairs: list[Pair], edits: dict[str, tuple[str, str] | None]) -> list[Pair]:
    """Edit headers as a multidict does it, which replaces the first entry of a name and removes the others."""
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
    """Edits take effect alike on what lies in a buffer and on a list; what was given is not changed, and the official reader agrees."""
    expected = _edited(pairs, edits)
    before = edits.copy()
    for entries in (_in_buffer(pairs), TextEntries(pairs)):
        edited = entries.edited(edits, DROP)
        assert (expected, len(expected)) == (list(edited), len(edited))
        payload = HTTPReqCallResp(0, Rewrite(headers=edited)).encode()
        read = oracle.read("HTTPReqCall.Resp", payload)["action"]
        assert expected == (read[1].get("headers") or [])
        assert pairs == list(entries)
    assert (before, names("keep-alive", "bb")) == (edits, DROP)


def test_edited_decodes_nothing_and_keeps_nothing_back() -> None:
    """Bytes of a header that nobody asked for are copied as they are, padding apart; those of one that is dropped do not travel."""
    payload = oracle.write("HTTPReqCall.Req", {"headers": [("a", "\udcff\udc80"), ("secret", "s3cret"), ("b", "3")]})
    out = bytearray()
    HTTPReqCallReq.decode(payload).headers.edited({"secret": None}, {}).put(out)
    assert (1, 0) == (out.count(b"\xff\x80"), out.count(b"s3cret"))


def test_edited_without_bound() -> None:
    """What would not fit a message unshared is refused here too, before it is written."""
    with pytest.raises(RemoteProtocolError, match="unfold"):
        HTTPReqCallReq.decode(_sharing(60_000, 2**20)).headers.edited({}, DROP)


def test_a_text_in_an_edit_that_cannot_be_sent() -> None:
    """A lone surrogate is refused, wherever the entries are."""
    for entries in (_in_buffer([("a", "1")]), entries_of([("a", "1")])):
        with pytest.raises(LocalProtocolError):
            entries.edited({"a": ("a", "\ud800")}, {}).put(bytearray())
