# SPDX-License-Identifier: Apache-2.0
"""
Convert the text of a setting to its value.

Every setting is given as text: in a flag, in the environment, or in the configuration file, whose scalars keep the form in which they
are written. So `0660` is octal and `on` is true in all three places, and each kind has one reader.
"""

import math
import os.path
import re
from collections.abc import Callable

import msgspec


class Kind(msgspec.Struct, frozen=True, eq=False):
    """
    A kind of value.

    Attributes:
        allowed: the allowed values, as the end of a sentence that begins with "must be". {} is replaced by the bounds or the words of the
            type.
        read: converts text to a value that msgspec converts to the setting's type. Raises ValueError if the text is not allowed. The second
            argument is the directory to which relative paths refer.
        unit: the unit of the value, for the documentation.
        separator: the character between the items of a list that is written as one text; None if the value is not a list.
        is_secret: true if the value may contain a password. Messages do not contain it.
    """

    allowed: str
    read: Callable[[str, str], object]
    unit: str = ""
    separator: str | None = None
    is_secret: bool = False


class Given(msgspec.Struct, frozen=True):
    """
    The text given for a setting, before it is converted.

    Attributes:
        text: the text, or a tuple of texts for a list.
        where: where the text was given, as in an error message.
        base: the directory to which relative paths refer.
        is_hidden: true if the text was read from a file that the setting names. Messages do not contain it, because it may be secret.
    """

    text: str | tuple[str, ...]
    where: str
    base: str
    is_hidden: bool = False


SECONDS_PER = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES_PER = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_amount = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_word = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _split_amount(text: str) -> tuple[str, str]:
    match = _amount.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match[1], match[2]


def read_text(text: str, _base: str) -> str:
    """Return the text. Raise ValueError if it is empty or contains a control character."""
    if not text or not text.isprintable():
        raise ValueError(text)
    return text


def read_word(text: str, _base: str) -> str:
    """Return the text. Raise ValueError unless it has 1 to 64 ASCII letters, digits, dots, hyphens or underscores."""
    if _word.fullmatch(text) is None:
        raise ValueError(text)
    return text


def read_path(text: str, base: str) -> str:
    """Return an absolute path. Raise ValueError as `read_text` does."""
    return os.path.normpath(os.path.join(base, read_text(text, base)))


def read_socket(text: str, base: str) -> str:
    """Return the path of a socket without the prefix `unix:` that the gateway uses. Raise ValueError if the path is relative."""
    path = read_text(text, base).removeprefix("unix:")
    if not os.path.isabs(path):
        raise ValueError(text)
    return path


def read_choice(text: str, _base: str) -> str:
    """Return the word in lower case, because case does not matter."""
    return text.lower()


def read_level(text: str, _base: str) -> str:
    """Return the name of a level as the gateway spells it: `warn` for Python's `WARNING`."""
    return {"warning": "warn"}.get(text.lower(), text.lower())


def read_count(text: str, _base: str) -> str:
    """Return a whole number as text; msgspec converts it and checks its bounds. Raise ValueError if it is not a whole number."""
    if text.isascii() and text.isdecimal():
        return text
    raise ValueError(text)


def read_count_or_auto(text: str, base: str) -> str:
    """Return a whole number as `read_count` does, or "auto"."""
    return "auto" if text.lower() == "auto" else read_count(text, base)


def read_fraction(text: str, _base: str) -> float:
    """Return a number such as `0.01` or `1`. Raise ValueError if the text has another form."""
    number, unit = _split_amount(text)
    if unit:
        raise ValueError(text)
    return float(number)


def read_duration(text: str, _base: str) -> float:
    """Return seconds for `2`, `0.5`, `500ms`, `2s`, `1m` or `1h`. Raise ValueError if the text has another form."""
    number, unit = _split_amount(text)
    if unit.lower() not in SECONDS_PER:
        raise ValueError(text)
    return float(number) * SECONDS_PER[unit.lower()]


def read_size(text: str, _base: str) -> int:
    """Return bytes for `65536`, `64KiB`, `1.5MiB` or `2GiB`. Raise ValueError if the text has another form."""
    number, unit = _split_amount(text)
    if unit.lower() not in BYTES_PER:
        raise ValueError(text)
    size_bytes = float(number) * BYTES_PER[unit.lower()]
    if size_bytes == math.inf:
        raise ValueError(text)
    return int(size_bytes)


def read_mode(text: str, _base: str) -> int:
    """Return the mode of a file, written in octal as for chmod. Raise ValueError if the text has another form."""
    return int(read_count(text.lower().removeprefix("0o"), _base), 8)


def read_address(text: str, _base: str) -> str:
    """
    Return a TCP address such as `127.0.0.1:9092`, `[::1]:9092` or `localhost:9092`.

    No other names are allowed, because the address to listen on must not depend on a name server.

    Raises: ValueError: the text has another form.
    """
    from ipaddress import ip_address  # imported late, because it is rarely needed, and the socket must be bound soon

    host, colon, port = text.rpartition(":")
    literal = host.removeprefix("[").removesuffix("]")
    if host != "localhost" and (ip_address(literal).version == 6) != host.startswith("["):
        raise ValueError(text)
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(text)
    return text


def read_switch(text: str, _base: str) -> bool:
    """Return the value of a switch. Raise ValueError if the text is not one of the words for true and false."""
    word = text.lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError(text)


TEXT = Kind("a string without control characters", read_text)
SECRET = Kind("a string without control characters", read_text, is_secret=True)
WORD = Kind("1 to 64 letters, digits, dots, hyphens or underscores", read_word)
NAMES = Kind("a list of names, or one string with commas between them", read_text, separator=",")
PATH = Kind("a path", read_path)
DIRECTORIES = Kind(f"a list of directories, or one string with {os.pathsep} between them", read_path, separator=os.pathsep)
SOCKET = Kind("an absolute path, with or without unix: before it", read_socket)
CHOICE = Kind("one of {}", read_choice)
LEVEL = Kind("one of {}", read_level)
COUNT = Kind("a whole number{}", read_count)
COUNT_OR_AUTO = Kind("auto or a whole number{}", read_count_or_auto)
FRACTION = Kind("a number{}", read_fraction)
DURATION = Kind("a duration{}: seconds, or as in 500ms, 2s, 1m, 1h", read_duration, unit="seconds")
SIZE = Kind("a size{}: bytes, or as in 64KiB, 64MiB, 2GiB", read_size, unit="bytes")
MODE = Kind("a file mode in octal, as in 0660", read_mode)
ADDRESS = Kind("an address and a port, as in 127.0.0.1:9092 or [::1]:9092", read_address)
SWITCH = Kind("true or false", read_switch)
