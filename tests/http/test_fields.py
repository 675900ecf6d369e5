# SPDX-License-Identifier: Apache-2.0
"""What may stand in a header, wherever it comes from."""

import pytest
from multidict import CIMultiDict

from apisix.runner.http.fields import check_header, check_text, sendable_headers


@pytest.mark.parametrize("text", ["", "plain", "tab\there", "ü", "\udcff", "\x7f", " "])
def test_text_that_can_be_sent(text: str) -> None:
    """Text that stands for bytes is let through, in values and, unless empty, in names."""
    check_text("it", text)
    check_header(text or "x", text)
    assert [(text or "x", text)] == sendable_headers([(text or "x", text)])


@pytest.mark.parametrize("text", [chr(0xD800), chr(0xDC00), "a" + chr(0xDFFF)])
def test_surrogates(text: str) -> None:
    """A surrogate that stands for no byte can't be encoded, and says so at once."""
    for check in (lambda: check_text("it", text), lambda: check_header("x", text), lambda: sendable_headers([(text, "x")])):
        with pytest.raises(ValueError, match="can't be sent"):
            check()


@pytest.mark.parametrize(
    ("given", "hint"),
    [(1, r"got int, write str\(1\)"), (1.5, "got float"), (True, "got bool"), (b"x", "got bytes, decode it"), (None, "got NoneType$")],
)
def test_other_types(given: object, hint: str) -> None:
    """The error says what came and what to do."""
    with pytest.raises(TypeError, match=hint):
        check_text("it", given)
    with pytest.raises(TypeError):
        sendable_headers([("x", given)])  # type: ignore[list-item]


def test_dropped_in_any_case() -> None:
    """Names are dropped whatever their case, and everything else keeps its order and repeats."""
    headers = CIMultiDict([("A", "1"), ("Content-LENGTH", "5"), ("a", "2"), ("TE", "x")])
    assert [("A", "1"), ("a", "2")] == sendable_headers(headers.items())
    assert [("TE", "x")] == sendable_headers([("a", "1"), ("TE", "x")], frozenset({"a"}))
