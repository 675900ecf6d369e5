# SPDX-License-Identifier: Apache-2.0
"""Secrets in a text are found by the names next to them, however they are escaped, and in a time that is proportional to the text."""

import sys
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest

from apisix.runner.http.redaction import is_secret
from apisix.runner.http.secret_text import find, replaced

KIB = 2**10

# A secret is written as [value] here, and the value without escapes is in the second column if it differs.
URLS = [
    ("https://x/?access_token=[s3cr3t-value]", None),
    ("https://x/?a=1&access_token=[s3cr3t-value]&b=2", None),
    ("/a?a=1;token=[s3cr3t-value];b=2", None),
    ("/a?token=[one;two]&b=2", None),
    ("https://x/#access_token=[s3cr3t-value]&expires_in=3600", None),
    ("https://x/?ACCESS_TOKEN=[s3cr3t-value]", None),
    ("https://x/?access%5Ftoken=[s3cr3t-value]", None),
    ("https://x/?%61ccess%5f%74oken=[s3cr3t-value]", None),
    ("https://x/?user[password]=[s3cr3t-value]", None),
    ("https://x/?user%5Bkey%5D=[s3cr3t-value]", None),
    ("https://x/?token=[a%2Bb%26c%3D]&d=1", "a+b&c="),
    ("https://x/?token=[a+b]", "a b"),
    ("https://x/?token=[abc==]", None),
    ("https://[user]:[pass-word]@host/a?b=c", None),
    ("https://[gh-token]@host/", None),
    ("https://[gh-token]:@host/", None),
    ("redis://:[pass-word]@host:6379/0", None),
    ("//[user]:[p%40ss]@host/", ["user", "p@ss"]),
    ("https://[user]:[p@ss]@host/", None),
    (r"https:\/\/[user]:[pass-word]@host\/", None),
    ("/a;jsessionid=[0123456789]?b=c", None),
    ("GET /a?token=[s3cr3t-value] HTTP/1.1", None),
    ("<https://x/?token=[s3cr3t-value]>; rel=next, <https://x/?token=[other-value]>; rel=last", None),
    ("page=1&token=[s3cr3t-value]", None),
]
ENCODED = [
    ("redirect_uri=https%3A%2F%2Fx%2F%3Ftoken%3D[s3cr3t-value]%26a%3D1&state=2", None),
    ("redirect_uri=https%3a%2f%2fx%2f%3ftoken%3d[s3cr3t-value]%26a%3d1&state=2", None),
    ("u=https%3A%2F%2Fx%2F%3Faccess%255Ftoken%3D[a%2526b]%26c", "a&b"),
    ("u=https%3A%2F%2F[user]%3A[pass-word]%40x%2F", None),
    ("u=https%3A%2F%2Fx%2F%23id_token%3D[s3cr3t-value]", None),
    ("u=a%253Fv%253Dhttps%25253A%25252F%25252Fx%25253Ftoken%25253D[s3cr3t-value]%252526b%25253D1%2526c%253D", None),
    ("/redirect/https%3A%2F%2Fx%2F%3Ftoken%3D[s3cr3t-value]", None),
    ("u=%2Fx%3Fa%3D1%3Btoken%3D[s3cr3t-value]%3Bb%3D2", None),
]
FIELDS = [
    ('x {"password": "[s3cr3t-value]"', None),
    ('x {"password" :\n"[s3cr3t-value]", "a": "b"}', None),
    ('x {"pass\\u0077ord": "[s3cr3t\\u002dvalue]"}', "s3cr3t-value"),
    (r'x {"password": "[a\"b]", "c": "d"}', 'a"b'),
    (r'x {"a": "{\"password\": \"[s3cr3t-value]\", \"b\": \"c\"}"}', None),
    (r"x {\"a\":\"{\\\"password\\\":\n\\\"[a\\\\\\\"b]\\\",\\\"c\\\":1}\"}", 'a"b'),
    ('x {"otp": [123456], "n": 1}', None),
    ('x {"password": "[cut off', None),
]
ELEMENTS = [
    ("<a><password>[s3cr3t-value]</password><b>c</b></a>", None),
    ('<wsse:Password Type="http://x#PasswordText">[s3cr3t-value]</wsse:Password>', None),
    ("<a><Password><value>[one]</value> <value>[two]</value></Password><b>c</b></a>", None),
    ("<password><password>[one]</password>[two]</password><b>c</b>", None),
    ("<password>[a&amp;b]</password>", "a&b"),
    ("<password><![CDATA[[a&amp;b]]]></password>", "a&amp;b"),
    ("<password/><a>b</a><password>\n [s3cr3t-value]\n</password>", None),
    ('<user name="u" password="[s3cr3t-value]" b="c"/>', None),
    ("<user name='u' password = '[a&lt;b]'/></user>", "a<b"),
    ("<a></a><password>[cut off", None),
    ("<a href='/x?a=1&amp;token=[s3cr3t-value]&amp;b=2'>c</a>", None),
]
OTHERS = [
    ("password = [s3cr3t-value]", None),
    ("Server=x;User Id=u;Password=[s3cr3t-value];Timeout=5", None),
    ('x=1, token="[a, b]", y=2', None),
    ("the token=[s3cr3t-value], he said", None),
    (r"{\"a\": \"<b password=\\\"[s3cr3t-value]\\\"/>\"}", None),
]


@pytest.mark.parametrize(("marked", "value"), [*URLS, *ENCODED, *FIELDS, *ELEMENTS, *OTHERS])
def test_secrets_are_found(marked: str, value: Any) -> None:
    text, secrets = _unmarked(marked)
    found = find(text, is_secret)

    assert [(secret.start, secret.end) for secret in found] == [(start, end) for start, end in secrets]
    values = [text[start:end] for start, end in secrets] if value is None else [value] if isinstance(value, str) else value
    assert [secret.value for secret in found] == values


def _unmarked(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a text without its marks, and where they were. `user[password]` and `user[key]` are names, and `![CDATA[` is not a mark."""
    for name in ("user[password]", "![CDATA[", "]]>"):
        marked = marked.replace(name, name.replace("[", "\x01").replace("]", "\x02"))
    text, starts, spans = "", 0, []
    for character in marked:
        if character == "[":
            starts = len(text)
        elif character == "]":
            spans.append((starts, len(text)))
            starts = 0
        else:
            text += character
    if starts:
        spans.append((starts, len(text)))
    return text.replace("\x01", "[").replace("\x02", "]"), spans


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
        'multipart/form-data; boundary="x"',
        "https://x/a?page=1#top",
        "mailto:a@b",
        "https://x/@user/a",
        "/a//b@c",
        "token=",
        "token=&a=b",
        "GET /a?token= HTTP/1.1",
        '{"a": "b", "n": 1}',
        "<a><b>c</b></a>",
        "<password></password>",
        'form-data; name="token"',
        "a=%3D%3D",
        'x {"max_tokens": 256}',
    ],
)
def test_texts_without_secrets(text: str) -> None:
    assert find(text, is_secret) == []


def test_a_user_is_marked() -> None:
    assert [secret.is_user for secret in find("https://user:pass@x https://token@x", is_secret)] == [True, False, False]


def test_each_encoding_up_to_the_limit() -> None:
    text = "https://x/?token=s3cr3t-value&a=1"
    for _ in range(5):
        text = f"u={quote(text, safe='')}"
        assert "s3cr3t-value" not in replaced(text, is_secret, lambda secret: "***")


def test_overlapping_secrets_are_one() -> None:
    text = '{"password": "a=1&token=b"'

    assert replaced(f"x {text}", is_secret, lambda secret: "***") == 'x {"password": "***"'


HOSTILE = [
    "=",
    "a=",
    "a=a&",
    "token=",
    "token=a&",
    "token=;",
    'token="',
    "token='a;",
    "token=%3Btoken",
    "%3D",
    "%25",
    "%253D",
    "a%3D",
    "token%3D",
    "token%3D%3B",
    "token%25253D%25253Ba",
    "%2F%2F",
    "://",
    "://@",
    "://a:",
    "%3A%2F%2Fa%40",
    "@",
    "<",
    "<a",
    "<a>",
    "</a>",
    "<password>",
    "<password></password",
    "<password><![CDATA[",
    "<token>a</token>",
    '"',
    '\\"',
    "\\",
    '"a":',
    '"a" ',
    '"token":"',
    '"token":"\\',
    '\\"token\\":\\"',
    '"token":1',
    '"\\',
    '{"',
    "[[",
    "[token]",
    " ",
    "a",
    "&",
    ";",
]


@pytest.mark.parametrize("head", ["", "token=", 'x "token": "', "<token>", "a%3D", "://"])
@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_takes_a_number_of_steps_that_is_proportional_to_its_length(unit: str, head: str) -> None:
    """The steps of Python are counted. Those of regular expressions can't be."""
    text = head + unit * (16 * KIB // len(unit))
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        find(text, is_secret)
    finally:
        sys.setprofile(None)

    assert calls < 40 * len(text)


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_of_a_mebibyte(unit: str) -> None:
    """The time is not measured. If a regular expression took the square of it, this test would take hours."""
    text = unit * (KIB * KIB // len(unit))

    assert len(replaced(text, is_secret, lambda secret: "***")) <= 3 * len(text)
