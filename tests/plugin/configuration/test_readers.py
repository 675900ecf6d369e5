# SPDX-License-Identifier: Apache-2.0
"""Typed configurations: which values are accepted, and that errors contain the field but never the value."""

import dataclasses
import enum
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from apisix import Plugin
from apisix.runner.plugin.configuration.readers import InvalidConfiguration, ObjectReader, UntypedReader, config_type_of, reader_for


class Mode(enum.Enum):
    """An enumeration."""

    STRICT = "strict"


@dataclasses.dataclass
class Data:
    """A dataclass with all kinds of fields."""

    keys: frozenset[str]
    header: str = "x-api-key"
    mode: Mode = Mode.STRICT
    level: Literal["low", "high"] = "low"
    users: dict[str, int] = dataclasses.field(default_factory=dict)
    count: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        """Refuse a header with a message that quotes it."""
        if self.header.startswith("bad"):
            raise ValueError(f"the header {self.header!r} is not allowed")


class Ham(msgspec.Struct, tag="ham"):
    """One variant."""


class Egg(msgspec.Struct, tag="egg"):
    """The other variant."""


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    """A struct that allows no other fields."""

    keys: frozenset[str] = frozenset()


class Typed(TypedDict):
    """A typed dict."""

    keys: list[str]


class Card(pydantic.BaseModel):
    """One variant."""

    kind: Literal["card"]


class Cash(pydantic.BaseModel):
    """The other variant."""

    kind: Literal["cash"]


class Model(pydantic.BaseModel, extra="forbid"):
    """A pydantic model with all kinds of fields."""

    keys: frozenset[str]
    header: str = "x-api-key"
    users: dict[str, int] = {}
    level: Literal["low", "high"] = "low"
    pay: Annotated[Card | Cash, pydantic.Field(discriminator="kind")] | None = None

    @pydantic.field_validator("header")
    @classmethod
    def check_header(cls, header: str) -> str:
        """Refuse a header with a message that quotes it."""
        if header.startswith("bad"):
            raise ValueError(f"the header {header!r} is not allowed")
        if header.startswith("worse"):
            raise SystemExit(header)
        return header


@pydantic.dataclasses.dataclass
class PydanticData:
    """A dataclass of pydantic, which validates by itself."""

    count: Annotated[int, pydantic.Field(ge=3)] = 3


@dataclasses.dataclass
class Holder:
    """A plain dataclass that contains a model."""

    inner: Model


@pytest.mark.parametrize(
    ("config_type", "value", "expected"),
    [
        (Data, '{"keys":["a"]}', Data(frozenset("a"))),
        (Struct, '{"keys":["a","b"]}', Struct(frozenset("ab"))),
        (Typed, '{"keys":["a"]}', {"keys": ["a"]}),
        (dict[str, int], '{"a":1}', {"a": 1}),
        (dict, '{"a":1}', {"a": 1}),
        (list[int], "[1]", [1]),
        (str, '"as it is"', '"as it is"'),
        (str, "", ""),
        (Model, '{"keys":["a"]}', Model(keys=frozenset("a"))),
        (PydanticData, '{"count":4}', PydanticData(4)),
        (Holder, '{"inner":{"keys":["a"]}}', Holder(Model(keys=frozenset("a")))),
        (list[Model], '[{"keys":["a"]}]', [Model(keys=frozenset("a"))]),
        (Any, '{"a":1}', {"a": 1}),
        (Any, " [1] ", [1]),
        (Any, "3", 3),
        (Any, "no JSON", "no JSON"),
        (Any, "", ""),
        (Any, "\udcff", "\udcff"),
        (Any, 100_000 * "[", 100_000 * "["),
    ],
)
def test_accepted_values(config_type: Any, value: str, expected: object) -> None:
    """Each kind of type is read. Without a type, everything is accepted: JSON is parsed, and other strings are not changed."""
    assert reader_for(config_type).read(value) == expected


@pytest.mark.parametrize("config_type", [Struct, PydanticData, dict, dict[str, int]])
@pytest.mark.parametrize("value", ["", " ", "{}"])
def test_an_empty_value_means_the_defaults(config_type: Any, value: str) -> None:
    """If a route has no value, the defaults are used."""
    assert reader_for(config_type).read(value) == config_type()


FAULTS = [
    (Data, "", ["$.keys: a value is required (the route has no value, which is read as {})"]),
    (Data, "{}", ["$.keys: a value is required"]),
    (Data, '{"keys":["a",SECRET]}', ["$.keys[1]: Expected str, got int"]),
    (Data, '{"keys":[],"mode":"SECRET"}', ['$.mode: expected one of "strict"']),
    (Data, '{"keys":[],"level":"SECRET"}', ['$.level: expected one of "high", "low"']),
    (Data, '{"keys":[],"users":{"SECRET":"x"}}', ["$.users[...]: Expected int, got str"]),
    (Data, '{"keys":[],"count":-1}', ["$.count: Expected int >= 0"]),
    (Data, '{"keys":[],"header":"bad SECRET"}', ["$: the header '...' is not allowed"]),
    (dict[str, list[Data | None]], '{"a":[{"keys":[],"mode":"SECRET"}]}', ['$[...][0].mode: expected one of "strict"']),
    (list[Ham | Egg], '[{"type":"SECRET"}]', ['$[0].type: expected one of "egg", "ham"']),
    (Data, "[]", ["$: Expected object, got array"]),
    (Data, "!SECRET", ["the value is not valid JSON: JSON is malformed: invalid character (byte 0)"]),
    (Data, "\udcff", ["the value is not valid JSON: JSON is malformed: invalid character (byte 0)"]),
    (list, 100_000 * "[", ["the value is not valid JSON: it is nested too deeply"]),
    (Struct, '{"kyes":["SECRET"]}', ["$.kyes: there is no such field"]),
    (Model, "", ["$.keys: Field required (the route has no value, which is read as {})"]),
    (Model, '{"keys":"SECRET","kyes":1}', ["$.keys: Input should be a valid array", "$.kyes: Extra inputs are not permitted"]),
    (Model, '{"keys":["a",1]}', ["$.keys[1]: Input should be a valid string"]),
    (Model, '{"keys":[],"users":{"SECRET":"x"}}', ["$.users[...]: Input should be a valid integer, unable to parse string as an integer"]),
    (Model, '{"keys":[],"level":"SECRET"}', ["$.level: Input should be 'low' or 'high'"]),
    (Model, '{"keys":[],"header":"bad SECRET"}', ["$.header: Value error, the header '...' is not allowed"]),
    (
        Model,
        '{"keys":[],"pay":{"kind":"SECRET"}}',
        ["$.pay: Input tag '...' found using 'kind' does not match any of the expected tags: 'card', 'cash'"],
    ),
    (Model, "!SECRET", ["$: Invalid JSON: expected value at line 1 column 1"]),
    (PydanticData, '{"count":1}', ["$.count: Input should be greater than or equal to 3"]),
    (Holder, '{"inner":{"keys":[1]}}', ["$.inner.keys[0]: Input should be a valid string"]),
]


@pytest.mark.parametrize(("config_type", "value", "problems"), FAULTS)
def test_problems_have_the_path_and_never_the_value(config_type: Any, value: str, problems: list[str]) -> None:
    """Errors contain the path and what was expected there. Neither they nor their causes contain a secret."""
    value = value.replace("SECRET", "271828")
    with pytest.raises(InvalidConfiguration) as caught:
        reader_for(config_type).read(value)
    assert list(caught.value.problems) == problems
    assert "271828" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_other_errors_of_validators_are_not_caught() -> None:
    """The builder of the chain handles them."""
    with pytest.raises(SystemExit):
        reader_for(Model).read('{"keys":[],"header":"worse"}')


def test_object_reader_always_returns_a_dict() -> None:
    """`Base` gets {} if the value is not an object."""
    assert [ObjectReader().read(value) for value in ('{"a":1}', "[]", "x", "")] == [{"a": 1}, {}, {}, {}]


T = TypeVar("T")
U = TypeVar("U")
B = TypeVar("B", bound=Struct)


class Direct(Plugin[Data]): ...


class Bare(Plugin): ...


class AnyPlugin(Plugin[Any]): ...


class Below(Direct): ...


class Between(Plugin[T], Generic[T]): ...


class Through(Between[Data]): ...


class Swapped(Between[T], Generic[U, T]): ...


class Twice(Swapped[int, Data]): ...


class Listed(Plugin[list[T]], Generic[T]): ...


class OfList(Listed[int]): ...


class Bound(Plugin[B], Generic[B]): ...


class Mixin: ...


class Mixed(Mixin, Direct): ...


class Forward(Plugin["Later"]): ...


class Optional(Plugin["Later | None"]): ...


@dataclasses.dataclass
class Later:
    """Defined after the plugin that refers to it."""

    keys: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Direct, Data),
        (Bare, Any),
        (AnyPlugin, Any),
        (Below, Data),
        (Between, Any),
        (Through, Data),
        (Twice, Data),
        (OfList, list[int]),
        (Listed, list[Any]),
        (Bound, Struct),
        (Mixed, Data),
        (Forward, Later),
        (Optional, Later | None),
    ],
)
def test_config_type_of(cls: type[Plugin[Any]], expected: object) -> None:
    """The type of the configuration is found through base classes, generic classes, and names that are defined later."""
    assert config_type_of(cls) == expected


def test_schema() -> None:
    """Each kind of type has a JSON Schema."""
    assert "keys" in reader_for(Data).schema()["$defs"]["Data"]["properties"]
    assert reader_for(Model).schema()["required"] == ["keys"]
    assert reader_for(str).schema() == {"type": "string"}
    assert UntypedReader().schema() == {}
    assert "inner" in reader_for(Holder).schema()["properties"]
