# SPDX-License-Identifier: Apache-2.0
"""
Find secrets in a text, by the names that are next to them.

These forms are found, wherever in the text they are:

- `name=value`, as in URLs, fragments, forms, cookies, attributes of XML and files of settings, also if the text is percent-encoded, as a
  URL in the query of another one is, up to MAX_ENCODINGS times;
- the user information of a URL, `https://user:password@host/`;
- `"name": "value"`, as in JSON, also in JSON that is cut off, has a mistake, or is in a string of JSON;
- `<name>value</name>`, as in XML.

The texts come from clients, so they may be made to take long. Each search passes over the text once. It never goes back, except for a name,
by MAX_NAME characters. So the number of its steps is proportional to the length of the text.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from html import unescape
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_plus

MAX_ENCODINGS: Final = 5
"""How many times a text may be percent-encoded."""
MAX_NAME: Final = 128
"""How many characters of a name are read."""

_NUMBERS: Final = re.compile(r"(?:passw(?:or)?d|passcode|pwd|secret|pin|otp|cvv2?|cvc)$", re.IGNORECASE)

IsSecret = Callable[[str], bool]
"""Returns True if the values of a name are secret."""


class Secret(NamedTuple):
    """
    A secret in a text.

    Attributes:
        start, end: where it is in the text.
        value: the secret itself, without the escapes of the text.
        is_user: True if it is the user of a URL that has a password too. Such a name may occur elsewhere without being a secret.
    """

    start: int
    end: int
    value: str
    is_user: bool = False


_MAY_CONTAIN: Final = re.compile(r"[=\"<@]|%(?:25)*+(?:3[Dd]|40)")
"""Matches in each text that contains a secret. Most values of headers have no match, which is found out fast."""
_NAME: Final = r"[\w.~$%\[\]-]"
_ENCODED_EQUALS: Final = re.compile(r"%((?:25){0,4})3[Dd]")
_NAME_BACKWARDS: Final = re.compile(rf"{_NAME}*+", re.ASCII)
_QUOTE: Final = re.compile(r"""[ \t]{0,8}(\\*+["'])""")
_SPACES: Final = re.compile(r"[ \t]{0,8}")
_TRAILING: Final = "'.,)}]\\`"
"""What is not part of a value at its end, as in a sentence or in source code."""
_AUTHORITY: Final = re.compile(r"/\\?/")
_ENCODED_AUTHORITY: Final = re.compile(r"%(?:25){0,4}2[Ff]%((?:25){0,4})2[Ff]")
_BEFORE_AUTHORITY: Final = (":", ":\\", "3A", "3a")
_AT: Final = re.compile(r"@|%(?:25){0,4}40")
_COLON: Final = re.compile(r":|%(?:25){0,4}3[Aa]")
_FIELD: Final = re.compile(r'"(?:\s|\\++[nrt])*+:(?:\s|\\++[nrt])*+(?:(\\*+)"|(-?\d[\d.eE+-]*+))')
_CLOSING: Final = re.compile(r'(?<!\\)(\\*+)"')
_OPEN: Final = re.compile(r"<([A-Za-z_][\w.:-]*+)")
_TAG: Final = re.compile(r"<(/?)([A-Za-z_][\w.:-]*+)([^<>]*+)>")


def is_secret_number(name: str) -> bool:
    """Return True if a number can be the secret of this name, such as `pin`. Others, such as `max_tokens`, are counts and durations."""
    return _NUMBERS.search(name) is not None


def find(text: str, is_secret: IsSecret) -> list[Secret]:
    """Return the secrets of a text, in order. They do not overlap."""
    if _MAY_CONTAIN.search(text) is None:
        return []
    found = [*_values(text, is_secret)] if "=" in text else []
    if "%" in text:
        found += _encoded_values(text, is_secret)
    if "@" in text or "%" in text:
        found += _users(text)
    if '"' in text and ":" in text:
        found += _fields(text, is_secret)
    if "</" in text:
        found += _elements(text, is_secret)
    return _joined(text, found) if len(found) > 1 else found


def replaced(text: str, is_secret: IsSecret, replacement: Callable[[Secret], str]) -> str:
    """Return a text in which each secret is replaced."""
    pieces: list[str] = []
    end = 0
    for secret in find(text, is_secret):
        pieces += text[end : secret.start], replacement(secret)
        end = secret.end
    return "".join([*pieces, text[end:]]) if pieces else text


def _joined(text: str, found: list[Secret]) -> list[Secret]:
    """Return secrets in order, and one in place of those that overlap."""
    joined: list[Secret] = []
    for secret in sorted(found, key=lambda each: (each.start, -each.end)):
        last = joined[-1] if joined else None
        if last is None or secret.start >= last.end:
            joined.append(secret)
        elif secret.end > last.end:
            joined[-1] = Secret(last.start, secret.end, text[last.start : secret.end])
    return joined


def _values(text: str, is_secret: IsSecret) -> Iterator[Secret]:
    """Yield the secrets in `name=value`. A name begins after the last equals sign."""
    end, equals = 0, text.find("=")
    while equals >= 0:
        before = text[max(end, equals - MAX_NAME) : equals]
        name = _name_at_the_end_of(before.rstrip(" \t"))
        end = equals + 1
        if name and _is_secret(name, is_secret):
            start, end, value = _value_at(text, end, is_spaced=before.endswith((" ", "\t")))
            if value:
                yield Secret(start, end, value)
        equals = text.find("=", end)


def _encoded_values(text: str, is_secret: IsSecret) -> Iterator[Secret]:
    """Yield the secrets in `name%3Dvalue` and `name%253Dvalue`. A name begins after the last equals sign."""
    end = 0
    for match in _ENCODED_EQUALS.finditer(text):
        start = match.start()
        if start < end:  # in a secret
            continue
        depth = len(match[1]) // 2 + 1
        before = text[max(end, start - MAX_NAME) : start]
        start = end = match.end()
        if before and _is_secret(_name_at_the_end_of(_unquoted(before, depth)), is_secret):
            found = _end_of_value(depth).search(text, start)
            end = len(text) if found is None else found.start()
            if end > start:
                yield Secret(start, end, unquote_plus(_unquoted(text[start:end], depth), errors="surrogateescape"))


def _is_secret(name: str, is_secret: IsSecret) -> bool:
    """Return True if a name is that of a secret, or if the last part of one such as `user[password]` is."""
    return is_secret(name) or ("[" in name and is_secret(name.rstrip("]").rpartition("[")[2]))


def _name_at_the_end_of(text: str) -> str:
    match = _NAME_BACKWARDS.match(text[::-1])
    name = "" if match is None else match[0][::-1]
    return unquote(name) if "%" in name else name


def _value_at(text: str, start: int, *, is_spaced: bool) -> tuple[int, int, str]:
    """Return where a value begins and ends, and the value without escapes. Args: is_spaced: True if there is a space before the `=`."""
    if quote := _QUOTE.match(text, start):
        start = quote.end()
        end = text.find(quote[1], start)
        end = len(text) if end < 0 else end
        return start, end, unescape(text[start:end])
    if is_spaced and (spaces := _SPACES.match(text, start)):
        start = spaces.end()
    found = _end_of_value(0).search(text, start)
    value = text[start : len(text) if found is None else found.start()].rstrip(_TRAILING)
    return start, start + len(value), unquote_plus(value, errors="surrogateescape")


@lru_cache(MAX_ENCODINGS + 1)
def _end_of_value(depth: int) -> re.Pattern[str]:
    """Return what matches the end of a value: a separator that is encoded at most as often as the equals sign before it."""
    ends = [r"[&#\s\"<>]", rf"[;?](?=\s|\Z|{_NAME}{{1,64}}=)"]
    for prefix in _prefixes(depth):
        ends += f"{prefix}(?:26|23|22|3[CcEe]|0[9AaDd])", rf"{prefix}3[BbFf](?=\Z|[\w.~$\[\]-]{{1,64}}{prefix}3[Dd])"
    return re.compile("|".join(ends), re.ASCII)


@lru_cache(MAX_ENCODINGS + 1)
def _end_of_authority(depth: int) -> re.Pattern[str]:
    return re.compile("|".join([r"[/?#\s\"<>\\]", *(f"{prefix}(?:2[Ff]|3[Ff]|23|20|22|3[CcEe])" for prefix in _prefixes(depth))]), re.ASCII)


def _prefixes(depth: int) -> list[str]:
    return ["%" + "25" * level for level in range(depth)]


def _users(text: str) -> Iterator[Secret]:
    """Yield the user information of URLs."""
    for match in _AUTHORITY.finditer(text):
        yield from _user_information(text, match, 0)
    for match in _ENCODED_AUTHORITY.finditer(text):
        yield from _user_information(text, match, len(match[1]) // 2 + 1)


def _user_information(text: str, slashes: re.Match[str], depth: int) -> Iterator[Secret]:
    start = slashes.end()
    if slashes.start() and not text[max(0, slashes.start() - 2) : slashes.start()].endswith(_BEFORE_AUTHORITY):
        return
    found = _end_of_authority(depth).search(text, start)
    authority = text[start : len(text) if found is None else found.start()]
    end = max((at.start() for at in _AT.finditer(authority)), default=0)
    if end:
        yield from _user_and_password(authority[:end], start, depth)


def _user_and_password(text: str, start: int, depth: int) -> Iterator[Secret]:
    colon = _COLON.search(text)
    user = text if colon is None else text[: colon.start()]
    password = "" if colon is None else text[colon.end() :]
    if user:
        yield Secret(start, start + len(user), _unquoted(user, depth + 1), is_user=bool(password))
    if password:
        yield Secret(start + len(text) - len(password), start + len(text), _unquoted(password, depth + 1))


def _unquoted(text: str, times: int) -> str:
    for _ in range(times):
        text = unquote(text, errors="surrogateescape")
    return text


def _fields(text: str, is_secret: IsSecret) -> Iterator[Secret]:
    """Yield the values of fields of JSON. In a string of JSON, or in a string in such a one, the quotes have backslashes."""
    end = 0
    for match in _FIELD.finditer(text):
        if match.start() < end:
            continue
        before = text[max(0, match.start() - MAX_NAME) : match.start()]
        slashes = len(before) - len(before.rstrip("\\")) if match[1] is None else len(match[1])
        times = (slashes + 1).bit_length()
        name = _unescaped(before[: len(before) - slashes].rpartition('"')[2], times)
        if not is_secret(name):
            continue
        start = end = match.end()
        if match[2]:
            if is_secret_number(name):
                yield Secret(match.start(2), end, match[2])
            continue
        closing = next((quote for quote in _CLOSING.finditer(text, start) if len(quote[1]) <= slashes), None)
        end = len(text) if closing is None else closing.end() - 1 - slashes
        if end > start:
            yield Secret(start, end, _unescaped(text[start:end], times))


def _unescaped(text: str, times: int) -> str:
    """Return the text of a JSON string without its quotes, which may be cut off."""
    for _ in range(times):
        if "\\" not in text:
            break
        try:
            text = str(json.loads(f'"{text}"', strict=False))
        except ValueError:
            break
    return text


def _elements(text: str, is_secret: IsSecret) -> Iterator[Secret]:
    """Yield all texts that are in elements whose name is that of a secret, without its prefix."""
    if not any(is_secret(name.rpartition(":")[2]) for name in set(_OPEN.findall(text))):
        return
    inside, nested, end = "", 0, 0
    for match in _TAG.finditer(text):
        is_end, name, rest = match.groups()
        if inside:
            yield from _element_text(text, end, match.start())
            if name == inside and not rest.endswith("/"):
                nested += -1 if is_end else 1
                inside = inside if nested else ""
        elif not is_end and not rest.endswith("/") and is_secret(name.rpartition(":")[2]):
            inside, nested = name, 1
        end = match.end()
    if inside:
        yield from _element_text(text, end, len(text))


def _element_text(text: str, start: int, end: int) -> Iterator[Secret]:
    content = text[start:end]
    stripped = content.strip().removeprefix("<![CDATA[").removesuffix("]]>")
    if stripped:
        start += content.index(stripped)
        yield Secret(start, start + len(stripped), stripped if "<![CDATA[" in content else unescape(stripped))
