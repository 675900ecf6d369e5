# SPDX-License-Identifier: Apache-2.0
"""
Convert keys and values to the bytes that a backend stores.

A whole number is stored as decimal digits, so that Redis can increment it. Each other type has a letter in front.
"""

from typing import Any, Final

import msgspec

MAX_KEY_BYTES: Final = 1024
"""The size limit for the UTF-8 encoding of a key."""
MAX_NAME_BYTES: Final = 128
"""The size limit for the UTF-8 encoding of the name of a store."""
MAX_VALUE_BYTES: Final = 1 << 20
"""The size limit for an encoded value."""
MAX_INT: Final = (1 << 63) - 1
MIN_INT: Final = -(1 << 63)
MAX_TTL_S: Final = 10 * 366 * 86400.0
"""The longest lifetime, in seconds: ten years. More is probably a mistake, such as a time instead of a duration."""

_BYTES: Final = b"b"
_STR: Final = b"s"
_JSON: Final = b"j"
_INT_START: Final = frozenset(b"-0123456789")

_encode_json = msgspec.json.Encoder(order="sorted").encode  # equal values must have equal encodings, or `cas` would fail
_decode_json = msgspec.json.Decoder().decode


def encode_key(prefix: bytes, key: str) -> bytes:
    """
    Return the bytes of a key, after the prefix of its store.

    Raises:
        TypeError: the key is not a str.
        ValueError: the key is empty, too long, or not valid Unicode.
    """
    if not isinstance(key, str):
        raise TypeError(f"a key must be a str, not {type(key).__name__}")
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a key must be valid Unicode: {error}") from None
    if not 0 < len(encoded) <= MAX_KEY_BYTES:
        raise ValueError(f"a key must have from 1 to {MAX_KEY_BYTES} bytes of UTF-8, not {len(encoded)}; use a digest of long keys")
    return prefix + encoded


def encode_value(value: object) -> bytes:
    """
    Return the bytes of a value.

    Raises:
        TypeError: the value is neither bytes, str, int nor JSON, or it would be read as another type.
        ValueError: the value is too large.
    """
    kind = type(value)
    if kind is int:
        return encode_int(value)  # type: ignore[arg-type]  # the type is checked
    if kind is str:
        try:
            encoded = _STR + str.encode(value)  # type: ignore[arg-type]
        except UnicodeEncodeError as error:
            raise ValueError(f"a str must be valid Unicode to be stored: {error}; store bytes instead") from None
    elif kind is bytes:
        encoded = b"".join((_BYTES, value))  # type: ignore[arg-type]
    elif kind in (dict, list, float, bool):
        encoded = _JSON + _checked_json(value)
    else:
        advice = "; use delete() to remove an entry" if value is None else "; convert it first"
        raise TypeError(f"a value must be bytes, str, int, float, bool, dict or list, not {kind.__name__}{advice}")
    if len(encoded) > MAX_VALUE_BYTES:
        raise ValueError(f"a value must have at most {MAX_VALUE_BYTES} bytes when it is encoded, not {len(encoded)}")
    return encoded


def decode_value(payload: bytes) -> Any:
    """
    Return the value that `encode_value` has encoded.

    Raises: ValueError: another program has written something else.
    """
    kind = payload[:1]
    if payload and payload[0] in _INT_START:
        return int(payload)
    if kind == _STR:
        return payload[1:].decode()
    if kind == _BYTES:
        return payload[1:]
    if kind == _JSON:
        return _decode_json(payload[1:])
    raise ValueError(f"the stored value was not written by this runner: it begins with {payload[:10]!r}")


def encode_int(value: int) -> bytes:
    """Return the bytes of a whole number. Raise ValueError if it has more than 64 bits."""
    if not MIN_INT <= value <= MAX_INT:
        raise ValueError("a stored int must fit in 64 bits with its sign; store it as a str")
    return b"%d" % value


def decode_int(payload: bytes) -> int:
    """Return the whole number in a payload. Raise TypeError if it is of another type."""
    if not payload or payload[0] not in _INT_START:
        raise TypeError("this operation needs an entry that is an int, and this entry has another type")
    return int(payload)


def to_ms(ttl_s: float | None) -> int | None:
    """
    Return a lifetime in milliseconds, at least 1, or None for no limit.

    Raises:
        TypeError: the lifetime is not a number.
        ValueError: it is not above 0, or longer than `MAX_TTL_S`.
    """
    if ttl_s is None:
        return None
    if not isinstance(ttl_s, int | float) or isinstance(ttl_s, bool):
        raise TypeError(f"a lifetime must be a number of seconds, not {type(ttl_s).__name__}")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise ValueError(f"a lifetime must be above 0 and at most {MAX_TTL_S:.0f} seconds, not {ttl_s}")
    return max(1, round(ttl_s * 1000))


def _checked_json(value: object) -> bytes:
    """Return the JSON of a value. Raise TypeError if reading it would give another value, as for a tuple or NaN."""
    try:
        encoded = _encode_json(value)
        is_same = _decode_json(encoded) == value
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as error:
        raise TypeError(f"a {type(value).__name__} must contain only JSON values to be stored: {error}") from None
    if not is_same:
        raise TypeError(
            f"this {type(value).__name__} would be read as another value, because it contains something that is not JSON, such as "
            "a tuple, bytes, NaN, a datetime, or a key that is not a str"
        )
    return encoded
