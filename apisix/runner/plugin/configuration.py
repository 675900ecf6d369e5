# SPDX-License-Identifier: Apache-2.0
"""
Read a route's `value` into the typed configuration of a plugin.

The texts of errors name the path to the field and what is expected there, and never hold a value: configurations carry
keys and passwords, and the texts go to logs.
"""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.plugin import Plugin


class InvalidConfiguration(ChainRefused):
    """A route's value is not what the plugin's configuration must be. `faults` says what is wrong, path by path."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(self.faults)


class Reader(Protocol):
    """Reads the configurations of one plugin."""

    def read(self, value: str) -> Any:
        """
        Return the configuration that the plugin sees.

        Raises: InvalidConfiguration: the value is not what the plugin asks for. What an author's own validators raise beside
            ValueError comes through.
        """

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what `read` accepts, `{}` where that is anything."""


class TextReader:
    """Hands the string on as it came: `PluginBase`, and `Plugin[str]`."""

    def read(self, value: str) -> str:
        """Return the value."""
        return value

    def schema(self) -> dict[str, Any]:
        """Return the schema of a string."""
        return {"type": "string"}


class UntypedReader:
    """The parsed JSON, or the string where it is none: `Plugin` without a parameter."""

    def read(self, value: str) -> Any:
        """Return any JSON value, or the string."""
        try:
            return msgspec.json.decode(_bytes_of(value))
        except (msgspec.DecodeError, RecursionError):
            return value

    def schema(self) -> dict[str, Any]:
        """Return the schema that allows everything."""
        return {}


class ObjectReader(UntypedReader):
    """The parsed JSON object, `{}` where the value is none: `Base`."""

    def read(self, value: str) -> dict[str, Any]:
        """Return a dict in any case."""
        parsed = super().read(value)
        return parsed if isinstance(parsed, dict) else {}


class MsgspecReader:
    """A dataclass, TypedDict, `msgspec.Struct`, dict, or what else msgspec reads."""

    def __init__(self, config_type: Any) -> None:
        self._type = config_type
        self._decoder = msgspec.json.Decoder(config_type)

    def read(self, value: str) -> Any:
        """Return an instance of the type. An empty value is read as `{}`, so that defaults apply."""
        try:
            return self._decoder.decode(_bytes_of(value) or b"{}")
        except msgspec.ValidationError as error:
            raise InvalidConfiguration((_msgspec_fault(error, value) + _note_on_empty(value),)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidConfiguration((f"the value is no JSON that can be read: {_text_of(error)}",)) from None

    def schema(self) -> dict[str, Any]:
        """Return the schema, with its parts under `$defs`."""
        return msgspec.json.schema(self._type)


class PydanticReader:
    """A pydantic model, or a type that has one inside, read by the methods that it brings. The runner does not import pydantic."""

    def __init__(self, validate_json: Callable[[bytes], Any], json_schema: Callable[[], dict[str, Any]]) -> None:
        self._validate_json = validate_json
        self._json_schema = json_schema

    def read(self, value: str) -> Any:
        """Return an instance of the model. An empty value is read as `{}`, so that defaults apply."""
        try:
            return self._validate_json(_bytes_of(value) or b"{}")
        except ValueError as error:  # pydantic's own class, which is one, can't be named here
            if not callable(getattr(error, "errors", None)):
                raise
            faults = error.errors(include_input=False, include_url=False, include_context=False)  # type: ignore[attr-defined]
            mask = _keys_of(UntypedReader().read(value)) - _declared(self.schema())
            raise InvalidConfiguration(tuple(_pydantic_fault(fault, value, mask) + _note_on_empty(value) for fault in faults)) from None

    def schema(self) -> dict[str, Any]:
        """Return the schema as pydantic writes it."""
        return self._json_schema()


def reader_for(config_type: Any) -> Reader:
    """
    Choose how configurations of a type are read.

    Raises: TypeError: neither msgspec nor pydantic can read the type; the text says why.
    """
    if config_type is Any:
        return UntypedReader()
    if config_type is str:
        return TextReader()
    if hasattr(config_type, "model_validate_json") and hasattr(config_type, "model_json_schema"):
        return PydanticReader(config_type.model_validate_json, config_type.model_json_schema)
    reader = MsgspecReader(config_type)
    inside = list(_classes_in(config_type))
    if hasattr(config_type, "__pydantic_validator__") or any(hasattr(cls, "__pydantic_validator__") for cls, _ in inside):
        adapter = sys.modules["pydantic"].TypeAdapter(config_type)
        return PydanticReader(adapter.validate_json, adapter.json_schema)
    for cls, is_foreign in inside:
        if is_foreign:
            raise TypeError(f"{getattr(cls, '__name__', cls)} is no dataclass, TypedDict, msgspec.Struct, dict or pydantic model")
    return reader


def config_type_of(cls: type[Plugin[Any]]) -> Any:
    """
    Return what `C` is in a class derived from `Plugin[C]`, through any classes between, and Any where none is named.

    Raises: NameError: the type is given as a string that means nothing in the class's module.
    """
    found = _argument_of(cls, ())
    if isinstance(found, str | typing.ForwardRef):
        holder = type("Holder", (), {"__annotations__": {"config": found}})
        found = typing.get_type_hints(holder, vars(sys.modules[cls.__module__]), include_extras=True)["config"]
    return found


def _argument_of(cls: type, arguments: tuple[Any, ...]) -> Any:
    """Follow the bases to `Plugin`, putting each class's arguments in the place of its parameters."""
    if cls is Plugin:
        return _resolved(arguments[0], {}) if arguments else Any
    known = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and issubclass(origin, Plugin):
            return _argument_of(origin, tuple(_resolved(argument, known) for argument in typing.get_args(base)))
    return Any


def _resolved(argument: Any, known: dict[Any, Any]) -> Any:
    """Put the known types in the place of type variables; what stays open is the variable's bound, or Any."""
    if isinstance(argument, typing.TypeVar):
        return known.get(argument, argument.__bound__ or Any)
    if isinstance(argument, type):  # a generic class without arguments has parameters too
        return argument
    parameters = getattr(argument, "__parameters__", ())
    return argument[tuple(known.get(parameter, Any) for parameter in parameters)] if parameters else argument


def _classes_in(config_type: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the classes inside a type, and whether each is one that msgspec can't read by itself."""
    from msgspec import inspect  # not before a typed plugin needs it

    seen: set[int] = set()
    waiting: list[object] = [inspect.type_info(config_type)]
    while waiting:
        info = waiting.pop()
        if isinstance(info, tuple):
            waiting.extend(info)
        elif isinstance(info, inspect.Type | inspect.Field) and id(info) not in seen:
            seen.add(id(info))
            if hasattr(info, "cls"):
                yield info.cls, isinstance(info, inspect.CustomType)
            waiting.extend(getattr(info, name) for name in info.__struct_fields__)


def _bytes_of(value: str) -> bytes:
    """Undo the decoding of the wire: bytes that are no UTF-8 are then refused as JSON, and not a crash."""
    return value.strip().encode("utf-8", "surrogateescape")


def _text_of(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _note_on_empty(value: str) -> str:
    return "" if value.strip() else " (the route gives no value, which is read as {})"


def _msgspec_fault(error: msgspec.ValidationError, value: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.a`" into path first, and leave out what quotes the value."""
    text, _, path = str(error).partition(" - at `")
    path = path.rstrip("`") or "$"
    if error.__cause__ is not None:  # raised by the author's __post_init__
        return f"{path}: {without_values(text, value)}"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", text):
        return f"{path}.{missing[1]}: a value is required"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", text):
        return f"{path}.{unknown[1]}: there is no such field"
    if re.match(r"Invalid (enum )?value ", text):
        return f"{path}: not one of the values that are allowed"
    return f"{path}: {text.replace('`', '')}"


# Of these, pydantic's own text holds nothing of the value. Others quote it, or are an author's own words.
_QUOTING = ("value_error", "assertion_error", "union_tag_invalid")


def _pydantic_fault(fault: dict[str, Any], value: str, mask: set[str]) -> str:
    """Put the path first, hide dict keys in it (they may be secrets, as in a table of API keys), keep the text."""
    unknown = fault["type"] == "extra_forbidden"
    steps = list(fault["loc"])
    path = "$" + "".join(
        f"[{step}]" if isinstance(step, int) else "[...]" if step in mask and not (unknown and at == len(steps) - 1) else f".{step}"
        for at, step in enumerate(steps)
    )
    text: str = fault["msg"]
    if fault["type"] in _QUOTING or "_" not in fault["type"]:
        text = without_values(text, value)
    return f"{path}: {text}"


def _keys_of(parsed: object) -> set[str]:
    """Collect the keys of all objects inside a JSON value."""
    return {part for part, is_key in _parts_of(parsed) if is_key}


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
    parsed = UntypedReader().read(value)
    parts: Iterable[str] = (part for part, is_key in _parts_of(parsed) if not is_key)
    if isinstance(parsed, str):
        parts = (parsed, *(part for part in re.split(r"[\s,:;=|&]+", parsed) if len(part) > 2))
    written = {spelling for part in parts for spelling in (part, repr(part)[1:-1]) if spelling.strip()}
    if not written:
        return text
    longest_first = sorted(written, key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", "...", text)
