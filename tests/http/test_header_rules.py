# SPDX-License-Identifier: Apache-2.0
"""Tests of the names and values that a header may have."""

import string
from collections.abc import Callable

import pytest
from multidict import CIMultiDict

from apisix.runner.http.header_rules import check_header, check_text, sendable_headers
from apisix.runner.http.reply import Reply
from tests.http.calls import a_request, a_response, answered, sent


@pytest.mark.parametrize("text", ["", "plain", "tab\there", "ü", "\x80", "\udcff", " ", "a b"])
def test_text_that_can_be_sent(text: str) -> None:
    """A value may contain any text without control characters, and surrogates that represent bytes."""
    check_text("it", text)
    check_header("x", text)
    assert sendable_headers([("x", text)]) == [("x", text)]


TOKEN = set("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters)
EVERY_CHARACTER = [chr(code) for code in [*range(256), 0x20AC, 0xD7FF, 0x1F600]]


def _can_be_sent(name: str, value: str) -> bool:
    try:
        check_header(name, value)
    except ValueError:
        return False
    return True


def test_names_are_tokens() -> None:
    """A name consists of at least one of the characters that RFC 9110, 5.6.2 lists."""
    for place in range(9):
        allowed = {character for character in EVERY_CHARACTER if _can_be_sent("a" * place + character + "a" * (9 - place), "")}
        assert allowed == TOKEN
    assert not _can_be_sent("", "x")


def test_values_have_no_control_characters() -> None:
    """A value may contain all characters except control characters. A tab is allowed. Source: RFC 9110, 5.5."""
    refused = {chr(code) for code in range(32)} - {"\t"} | {"\x7f"}
    for place in range(20):
        assert {
            character for character in EVERY_CHARACTER if not _can_be_sent("x", "a" * place + character + "a" * (20 - place))
        } == refused


WAYS: dict[str, Callable[[str, str], object]] = {
    "request": lambda name, value: a_request().headers.update([(name, value)]),
    "response_headers": lambda name, value: a_request().response_headers.__setitem__(name, value),
    "response": lambda name, value: a_response().headers.add(name, value),
    "reply": lambda name, value: Reply(headers=[(name, value)]),
    "reply, later": lambda name, value: Reply().headers.__setitem__(name, value),
    "reply, assigned": lambda name, value: setattr(Reply(), "headers", {name: value}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("name", "value"), [("x y", "1"), ("a:b", "1"), ("ü", "1"), ("", "1"), ("x\t", "1"), ("x", "a\x01"), ("x", "\x7f"), ("x", "a\nb")]
)
def test_refused_at_the_line(way: Callable[[str, str], object], name: str, value: str) -> None:
    """A header that can't be sent raises an error at the line that sets it."""
    with pytest.raises(ValueError, match=r"name|control characters"):
        way(name, value)


def test_received_headers_are_not_checked() -> None:
    """A received header is sent back unchanged, and can be set to its own value, even if it breaks the rules."""
    received = [("X Y", "a\x01b"), ("\udcff", "\x7f"), ("Set-Cookie", "a\x01"), ("Set-Cookie", "b")]
    response = a_response(received)
    response.headers.update(response.headers)
    response.headers["x y"] = "a\x01b"
    response.headers["x-new"] = "1"
    request = a_request(headers=received[:2])
    request.headers.update(request.headers)

    assert list(answered(response).headers) == [("x y", "a\x01b"), *received[1:], ("x-new", "1")]
    assert sent(request).action is None
    with pytest.raises(ValueError, match="control characters"):
        response.headers["set-cookie"] = "c\x01"


@pytest.mark.parametrize("text", [chr(0xD800), chr(0xDC00), "a" + chr(0xDFFF)])
def test_surrogates(text: str) -> None:
    """A surrogate that does not represent a byte raises an error at once."""
    for check in (lambda: check_text("it", text), lambda: check_header("x", text), lambda: sendable_headers([(text, "x")])):
        with pytest.raises(ValueError, match="can't be sent"):
            check()


@pytest.mark.parametrize(
    ("given", "hint"),
    [(1, r"got int, write str\(1\)"), (1.5, "got float"), (True, "got bool"), (b"x", "got bytes, decode it"), (None, "got NoneType$")],
)
def test_other_types(given: object, hint: str) -> None:
    """The error has the type of the value and what to do."""
    with pytest.raises(TypeError, match=hint):
        check_text("it", given)
    with pytest.raises(TypeError):
        sendable_headers([("x", given)])  # type: ignore[list-item]


def test_dropped_in_any_case() -> None:
    """Names are dropped in any case. Other headers keep their order and are repeated."""
    headers = CIMultiDict([("A", "1"), ("Content-LENGTH", "5"), ("a", "2"), ("TE", "x")])
    assert sendable_headers(headers.items()) == [("A", "1"), ("a", "2")]
    assert sendable_headers([("a", "1"), ("TE", "x")], frozenset({"a"})) == [("TE", "x")]
