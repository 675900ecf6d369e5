# SPDX-License-Identifier: Apache-2.0
"""
Say what is wrong with a configuration: the path to the field, what is expected there, and never a value.

Configurations carry keys and passwords, and these texts go to logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec


def bytes_of(value: str) -> bytes:
    """Undo the decoding of the wire: bytes that are no UTF-8 are then refused as JSON, and not a crash."""
    return value.strip().encode("utf-8", "surrogateescape")


def parsed_json(value: str) -> Any:
    """Read a value as JSON, and as a string where it is none."""
    try:
        return msgspec.json.decode(bytes_of(value))
    except (msgspec.DecodeError, RecursionError):
        return value


def note_on_empty(value: str) -> str:
    """Say that a fault is one of `{}`, which the author of the route never wrote."""
    return "" if value.strip() else " (the route gives no value, which is read as {})"


def msgspec_fault(error: msgspec.ValidationError, value: str, schema: Callable[[], dict[str, Any]]) -> str:
    """
    Turn "Expected `int`, got `str` - at `$.a`" into path first, and leave out what quotes the value.

    Args: schema: gives the JSON Schema of the configuration, where the values stand that are allowed.
    """
    text, _, path = str(error).rpartition(" - at `")
    text, path = (text, path.rstrip("`")) if text else (str(error), "$")
    if error.__cause__ is not None:  # raised by the author's __post_init__
        return f"{path}: {without_values(text, value)}"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", text):
        return f"{path}.{missing[1]}: a value is required"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", text):
        return f"{path}.{unknown[1]}: there is no such field"
    if re.match(r"Invalid (enum )?value ", text):
        allowed = ", ".join(msgspec.json.encode(word).decode() for word in _allowed_at(schema(), path))
        return f"{path}: expected one of {allowed}"
    return f"{path}: {text.replace('`', '')}"


def _allowed_at(schema: dict[str, Any], path: str) -> list[Any]:
    """Collect the values that a schema allows at a path such as `$.rules[0].mode`."""
    nodes = _alternatives(schema, schema)
    for step in re.findall(r"\.[^.\[]+|\[[^\]]*\]", path):
        children = [_child_of(node, step) for node in nodes]
        nodes = [found for child in children if isinstance(child, dict) for found in _alternatives(child, schema)]
    allowed = [word for node in nodes for word in node.get("enum", [node["const"]] if "const" in node else [])]
    return sorted(allowed, key=str)


def _child_of(node: dict[str, Any], step: str) -> object:
    """Take one step of a path: a field, the items of an array, or, at `[...]`, the values of a dict."""
    if step.startswith("."):
        return node.get("properties", {}).get(step[1:])
    return node.get("additionalProperties" if step == "[...]" and "additionalProperties" in node else "items")


def _alternatives(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Follow references and unions to the nodes behind them."""
    if "$ref" in node:
        return _alternatives(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in node:
        return [found for alternative in node["anyOf"] for found in _alternatives(alternative, schema)]
    return [node]


# Texts of these types of error name what is expected and quote nothing else. All others may quote the value.
_NAMES_EXPECTED = re.compile(
    r"\w+_(type|parsing|too_short|too_long|pattern_mismatch)|too_short|too_long|literal_error|enum|missing|extra_forbidden|"
    r"(greater|less)_than(_equal)?|multiple_of|json_invalid"
)


def pydantic_faults(details: Iterable[dict[str, Any]], value: str, schema: dict[str, Any]) -> list[str]:
    """
    Put the paths first. Hide keys of dicts in them, which may be secrets, as in a table of API keys.

    Args: details: what the error's `errors()` returned. schema: tells a field's name from a dict's key.
    """
    mask = {part for part, is_key in _parts_of(parsed_json(value)) if is_key} - _declared(schema)
    return [_pydantic_fault(detail, value, mask) for detail in details]


def _pydantic_fault(detail: dict[str, Any], value: str, mask: set[str]) -> str:
    *parents, last = detail["loc"] or ("",)
    steps = [*map(mask.__contains__, parents), last in mask and detail["type"] != "extra_forbidden"]
    path = "".join(
        f"[{step}]" if isinstance(step, int) else "[...]" if is_masked else f".{step}"
        for step, is_masked in zip((*parents, last), steps, strict=True)
        if step != ""
    )
    text: str = detail["msg"]
    return f"${path}: {text if _NAMES_EXPECTED.fullmatch(detail['type']) else without_values(text, value)}"


def _declared(schema: object) -> set[str]:
    """Collect the names of all fields that a schema declares."""
    if isinstance(schema, list):
        return set().union(*map(_declared, schema))
    if not isinstance(schema, dict):
        return set()
    properties = schema.get("properties")
    own = set(properties) if isinstance(properties, dict) else set()
    return own.union(*map(_declared, schema.values()))


def _parts_of(parsed: object) -> Iterator[tuple[str, bool]]:
    """Yield each scalar and each key of a JSON value as text, and whether it is a key."""
    waiting = [parsed]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from ((key, True) for key in part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, str | int | float) and not isinstance(part, bool):
            yield str(part), False


def without_values(text: str, value: str) -> str:
    """
    Blank in a text what stands in a configuration: an exception's words may quote a key or a password.

    >>> without_values("no such key: 'alpha'", '{"keys": ["alpha"]}')
    "no such key: '...'"
    """
    parsed = parsed_json(value)
    parts: Iterable[str] = (part for part, is_key in _parts_of(parsed) if not is_key)
    if isinstance(parsed, str):
        parts = (parsed, *(part for part in re.split(r"[\s,:;=|&]+", parsed) if len(part) > 2))
    written = {spelling for part in parts for spelling in (part, repr(part)[1:-1]) if spelling.strip()}
    if not written:
        return text
    longest_first = sorted(written, key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", "...", text)
