# SPDX-License-Identifier: Apache-2.0
"""
Read a route's `value` into the typed configuration of a plugin.

Error messages contain the path to the field and what is expected there, and never a value: configurations contain keys and passwords, and
the messages are logged.
"""

from __future__ import annotations

import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.configuration.validation_errors import (
    bytes_of,
    msgspec_problem,
    note_on_empty,
    parsed_json,
    pydantic_problems,
    without_values,
)
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.plugin.plugin_type import PluginType


class InvalidConfiguration(ChainRefused):
    """
    A route's value is not a valid configuration of the plugin.

    Attributes:
        problems: what is wrong, one text for each path.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


class Reader(Protocol):
    """Reads the configurations of one plugin."""

    def read(self, value: str) -> Any:
        """
        Return the configuration that the plugin gets.

        Raises: InvalidConfiguration: the value is not a valid configuration. Errors other than ValueError that the author's own
            validators raise are not caught.
        """

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what `read` accepts, or `{}` if it accepts anything."""


class TextReader:
    """Returns the string unchanged. Used for `PluginBase` and `Plugin[str]`."""

    def read(self, value: str) -> str:
        """Return the value."""
        return value

    def schema(self) -> dict[str, Any]:
        """Return the schema of a string."""
        return {"type": "string"}


class UntypedReader:
    """Returns the parsed JSON, or the string if it is not JSON. Used for `Plugin` without a parameter."""

    def read(self, value: str) -> Any:
        """Return any JSON value, or the string."""
        return parsed_json(value)

    def schema(self) -> dict[str, Any]:
        """Return the schema that allows everything."""
        return {}


class ObjectReader(UntypedReader):
    """Returns the parsed JSON object, or `{}` if the value is not a JSON object. Used for `Base`."""

    def read(self, value: str) -> dict[str, Any]:
        """Return a dict."""
        parsed = super().read(value)
        return parsed if isinstance(parsed, dict) else {}


class MsgspecReader:
    """Reads a dataclass, TypedDict, `msgspec.Struct`, dict, or another type that msgspec supports."""

    def __init__(self, config_type: Any) -> None:
        self._type = config_type
        self._decoder = msgspec.json.Decoder(config_type)

    def read(self, value: str) -> Any:
        """Return an instance of the type. An empty value is read as `{}`, so that defaults apply."""
        try:
            return self._decoder.decode(bytes_of(value) or b"{}")
        except msgspec.ValidationError as error:
            raise InvalidConfiguration((msgspec_problem(error, value, self.schema) + note_on_empty(value),)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidConfiguration((f"the value is not valid JSON: {_text_of(error)}",)) from None

    def schema(self) -> dict[str, Any]:
        """Return the schema. Its parts are under `$defs`."""
        return msgspec.json.schema(self._type)


class PydanticReader:
    """Reads a pydantic model, or a type that contains one, by the methods of pydantic. The runner does not import pydantic."""

    def __init__(self, validate_json: Callable[[bytes], Any], json_schema: Callable[[], dict[str, Any]]) -> None:
        self._validate_json = validate_json
        self._json_schema = json_schema

    def read(self, value: str) -> Any:
        """Return an instance of the model. An empty value is read as `{}`, so that defaults apply."""
        try:
            return self._validate_json(bytes_of(value) or b"{}")
        except ValueError as error:  # the error class of pydantic derives from it, and is not imported here
            if not callable(getattr(error, "errors", None)):
                raise
            details = error.errors(include_input=False, include_url=False, include_context=False)  # type: ignore[attr-defined]
            problems = pydantic_problems(details, value, self.schema())
            raise InvalidConfiguration(tuple(problem + note_on_empty(value) for problem in problems)) from None

    def schema(self) -> dict[str, Any]:
        """Return the schema that pydantic generates."""
        return self._json_schema()


def reader_for(config_type: Any) -> Reader:
    """
    Return the reader for a type of configuration.

    Raises: TypeError: neither msgspec nor pydantic can read the type; the message says why.
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
            raise TypeError(f"{getattr(cls, '__name__', cls)} is not a dataclass, TypedDict, msgspec.Struct, dict or pydantic model")
    return reader


def config_type_of(cls: type[Plugin[Any]]) -> Any:
    """
    Return `C` of a class that derives from `Plugin[C]`, directly or through other classes. Return Any if the class has no parameter.

    Raises: NameError: the type is given as a string that the class's module does not define.
    """
    found = _argument_of(cls, ())
    if isinstance(found, str | typing.ForwardRef):
        holder = type("Holder", (), {"__annotations__": {"config": found}})
        found = typing.get_type_hints(holder, vars(sys.modules[cls.__module__]), include_extras=True)["config"]
    return found


def _argument_of(cls: type, arguments: tuple[Any, ...]) -> Any:
    """Follow the base classes to `Plugin`, and replace the type parameters of each class by its arguments."""
    if cls is Plugin:
        return _resolved(arguments[0], {}) if arguments else Any
    known = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and issubclass(origin, Plugin):
            return _argument_of(origin, tuple(_resolved(argument, known) for argument in typing.get_args(base)))
    return Any


def _resolved(argument: Any, known: dict[Any, Any]) -> Any:
    """Replace type variables by the known types, or else by the variable's bound or Any."""
    if isinstance(argument, typing.TypeVar):
        return known.get(argument, argument.__bound__ or Any)
    if isinstance(argument, type):  # a generic class without arguments has parameters too
        return argument
    parameters = getattr(argument, "__parameters__", ())
    return argument[tuple(known.get(parameter, Any) for parameter in parameters)] if parameters else argument


def _classes_in(config_type: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the classes inside a type, each with True if msgspec can't read it by itself."""
    from msgspec import inspect  # imported only if a typed plugin needs it

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


def configuration_refused(found: PluginType, value: str, error: BaseException) -> ChainRefused:
    """Return the error for a plugin that can't be configured, with the line that raised `error`. It does not contain the route's value."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == found.source.file]
    line = frames[-1].lineno if frames else found.source.line
    text = f"{type(error).__name__}: {without_values(str(error), value)}".rstrip(": ")
    if not found.api.is_legacy and isinstance(error, RuntimeError) and "event loop" in str(error):
        text += ". A plugin is configured in a thread without an event loop: create objects that need one in `async def setup(self)`"
    return ChainRefused(f"it can't be configured: {text} ({found.source.file}:{line})")
