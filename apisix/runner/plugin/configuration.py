# SPDX-License-Identifier: Apache-2.0
"""
Read a route's `value` into the typed configuration of a plugin.

The texts of errors name the path to the field and what is expected there, and never hold a value: configurations carry
keys and passwords, and the texts go to logs.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.plugin.validation_errors import bytes_of, msgspec_fault, note_on_empty, parsed_json, pydantic_faults


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
        return parsed_json(value)

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
            return self._decoder.decode(bytes_of(value) or b"{}")
        except msgspec.ValidationError as error:
            raise InvalidConfiguration((msgspec_fault(error, value, self.schema) + note_on_empty(value),)) from None
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
            return self._validate_json(bytes_of(value) or b"{}")
        except ValueError as error:  # pydantic's own class, which is one, can't be named here
            if not callable(getattr(error, "errors", None)):
                raise
            details = error.errors(include_input=False, include_url=False, include_context=False)  # type: ignore[attr-defined]
            faults = pydantic_faults(details, value, self.schema())
            raise InvalidConfiguration(tuple(fault + note_on_empty(value) for fault in faults)) from None

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


def _text_of(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
