# SPDX-License-Identifier: Apache-2.0
"""
Describe invalid configurations: each message has the path to the field and what is expected there, but never a value.

Configurations contain keys and passwords, and these messages are logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec


def bytes_of(value: str) -> bytes:
    """Return the bytes that were received. If they are not UTF-8, the JSON decoder refuses them."""
    return value.strip().encode("utf-8", "surrogateescape")


def parsed_json(value: str) -> Any:
    """Return a value parsed as JSON, or the string if it is not JSON."""
    try:
        return msgspec.json.decode(bytes_of(value))
    except (msgspec.DecodeError, RecursionError):
        return value


def note_on_empty(value: str) -> str:
    """Return a note for the messages about an empty value, which is read as `{}`; "" if the value is not empty."""
    return "" if value.strip() else " (the route has no value, which is read as {})"


def msgspec_problem(error: msgspec.ValidationError, value: str, schema: Callable[[], dict[str, Any]]) -> str:
    """
    Turn "Expected `int`, got `str` - at `$.a`" into a message that begins with the path and does not quote the value.

    Args:
        error: as msgspec raised it.
        value: the configuration.
        schema: returns the JSON Schema of the configuration, which contains the allowed values.
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
    """Return the values that a schema allows at a path such as `$.rules[0].mode`."""
    nodes = _alternatives(schema, schema)
    for step in re.findall(r"\.[^.\[]+|\[[^\]]*\]", path):
        children = [_child_of(node, step) for node in nodes]
        nodes = [found for child in children if isinstance(child, dict) for found in _alternatives(child, schema)]
    allowed = [word for node in nodes for word in node.get("enum", [node["const"]] if "const" in node else [])]
    return sorted(allowed, key=str)


def _child_of(node: dict[str, Any], step: str) -> object:
    """Return the node after one step of a path: a field, the items of an array, or at `[...]` the values of a dict."""
    if step.startswith("."):
        return node.get("properties", {}).get(step[1:])
    return node.get("additionalProperties" if step == "[...]" and "additionalProperties" in node else "items")


def _alternatives(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a node: follow its reference, or list the members of its union."""
    if "$ref" in node:
        return _alternatives(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in node:
        return [found for alternative in node["anyOf"] for found in _alternatives(alternative, schema)]
    return [node]


# Messages of these types of errors contain what is expected, but never the value. All others may quote the value.
_NAMES_EXPECTED = re.compile(
    r"\w+_(type|parsing|too_short|too_long|pattern_mismatch)|too_short|too_long|literal_error|enum|missing|extra_forbidden|"
    r"(greater|less)_than(_equal)?|multiple_of|json_invalid"
)


def pydantic_problems(details: Iterable[dict[str, Any]], value: str, schema: dict[str, Any]) -> list[str]:
    """
    Return messages that begin with the path. Keys of dicts are replaced in it, because they may be secrets, as in a table of API keys.

    Args:
        details: what the error's `errors()` returned.
        value: the configuration.
        schema: its JSON Schema, which shows whether a name is a field or the key of a dict.
    """
    mask = {part for part, is_key in _parts_of(parsed_json(value)) if is_key} - _declared(schema)
    return [_pydantic_problem(detail, value, mask) for detail in details]


def _pydantic_problem(detail: dict[str, Any], value: str, mask: set[str]) -> str:
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
    """Return the names of all fields that a schema declares."""
    if isinstance(schema, list):
        return set().union(*map(_declared, schema))
    if not isinstance(schema, dict):
        return set()
    properties = schema.get("properties")
    own = set(properties) if isinstance(properties, dict) else set()
    return own.union(*map(_declared, schema.values()))


def _parts_of(parsed: object) -> Iterator[tuple[str, bool]]:
    """Yield each scalar and each key of a JSON value as text, with True if it is a key."""
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
    Replace the values of a configuration in a message by "...": the message of an exception may quote a key or a password.

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
