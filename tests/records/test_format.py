# SPDX-License-Identifier: Apache-2.0
"""Records are read back as they were written."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.records.format import (
    VERSION,
    Body,
    CallRecord,
    ConfigurationRecord,
    Edit,
    UnreadableRecord,
    decode,
    encode,
    json_schema,
    printable,
)

CALL = CallRecord(id="a", call_id=1, time="2026-01-01T00:00:00Z", duration_s=0.5, configuration="c", plugins=["p"], outcome="continue")


def test_a_call_is_read_back() -> None:
    assert decode(encode(CALL)) == CALL


def test_a_configuration_is_read_back() -> None:
    record = ConfigurationRecord(digest="d", plugins=[])

    assert decode(encode(record)) == record


def test_unknown_fields_are_ignored() -> None:
    assert decode(encode(CALL).replace(b'"id"', b'"later":{},"id"')) == CALL


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not a record"),
        (b"{}", "not a record"),
        (b"\xff", "not a record"),
        (b'{"type":"configuration","version":2,"digest":"d","plugins":[]}', f"version 2, and this release reads versions up to {VERSION}"),
    ],
)
def test_lines_that_are_not_records(line: bytes, message: str) -> None:
    with pytest.raises(UnreadableRecord, match=message):
        decode(line)


@given(st.binary(max_size=40), st.integers(0, 50))
def test_bodies(data: bytes, limit: int) -> None:
    """The size and the digest are those of the whole body. The content is its beginning, which ends with a complete character of a text."""
    body = Body.of(data, limit)

    assert (body.size, body.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert body.truncated == (len(data) > limit)
    assert data.startswith(body.content())
    assert min(limit, len(data)) - len(body.content()) in range(4 if body.truncated else 1)


def test_the_schema_describes_both_kinds_of_lines() -> None:
    schema = json_schema()

    assert {"CallRecord", "ConfigurationRecord"} <= schema["$defs"].keys()


@given(st.binary())
def test_text_is_always_encodable(data: bytes) -> None:
    printable(data.decode("utf-8", "surrogateescape")).encode()


@pytest.mark.parametrize(
    ("edit", "phrase"),
    [
        (Edit(kind="header", name="a", after=["1"]), "header a added"),
        (Edit(kind="response_header", name="a", before=["0"], after=["1"]), "response header a changed"),
        (Edit(kind="argument", name="a", before=["0"]), "argument a removed"),
        (Edit(kind="header", name="a", before=["0"], for_later_plugins_only=True), "header a removed for later plugins only"),
        (Edit(kind="path", before=["/a"], after=["/b"]), "path /a -> /b"),
        (Edit(kind="body", body_after=Body(3, "")), "body -> 3 B"),
        (Edit(kind="body", body_before=Body(1, ""), body_after=Body(3, "")), "body 1 B -> 3 B"),
    ],
)
def test_edits_in_words(edit: Edit, phrase: str) -> None:
    assert edit.phrase() == phrase
