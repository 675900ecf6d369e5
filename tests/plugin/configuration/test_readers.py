# SPDX-License-Identifier: Apache-2.0
"""Typed configurations: what is accepted, and that errors name the field and never the value."""

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
    """How strict."""

    STRICT = "strict"


@dataclasses.dataclass
class Data:
    """A dataclass with all that can go wrong."""

    keys: frozenset[str]
    header: str = "x-api-key"
    mode: Mode = Mode.STRICT
    level: Literal["low", "high"] = "low"
    users: dict[str, int] = dataclasses.field(default_factory=dict)
    count: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        """Refuse a header, quoting it."""
        if self.header.startswith("bad"):
            raise ValueError(f"the header {self.header!r} is no good")


class Ham(msgspec.Struct, tag="ham"):
    """One variant."""


class Egg(msgspec.Struct, tag="egg"):
    """The other variant."""


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    """A struct that knows its fields."""

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
    """A pydantic model with all that can go wrong."""

    keys: frozenset[str]
    header: str = "x-api-key"
    users: dict[str, int] = {}
    level: Literal["low", "high"] = "low"
    pay: Annotated[Card | Cash, pydantic.Field(discriminator="kind")] | None = None

    @pydantic.field_validator("header")
    @classmethod
    def check_header(cls, header: str) -> str:
        """Refuse a header, quoting it."""
        if header.startswith("bad"):
            raise ValueError(f"the header {header!r} is no good")
        if header.startswith("worse"):
            raise SystemExit(header)
        return header


@pydantic.dataclasses.dataclass
class PydanticData:
    """A dataclass of pydantic's, which validates in its own way."""

    count: Annotated[int, pydantic.Field(ge=3)] = 3


@dataclasses.dataclass
class Holder:
    """A plain dataclass with a model inside."""

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
def test_what_is_accepted(config_type: Any, value: str, expected: object) -> None:
    """Each kind of type gets its value, and without a type anything is taken: JSON parsed, other strings as they are."""
    assert expected == reader_for(config_type).read(value)


@pytest.mark.parametrize("config_type", [Struct, PydanticData, dict, dict[str, int]])
@pytest.mark.parametrize("value", ["", " ", "{}"])
def test_an_empty_value_means_the_defaults(config_type: Any, value: str) -> None:
    """A route that gives no value gets the defaults."""
    assert config_type() == reader_for(config_type).read(value)


FAULTS = [
    (Data, "", ["$.keys: a value is required (the route has no value, which is read as {})"]),
    (Data, "{}", ["$.keys: a value is required"]),
    (Data, '{"keys":["a",SECRET]}', ["$.keys[1]: Expected str, got int"]),
    (Data, '{"keys":[],"mode":"SECRET"}', ['$.mode: expected one of "strict"']),
    (Data, '{"keys":[],"level":"SECRET"}', ['$.level: expected one of "high", "low"']),
    (Data, '{"keys":[],"users":{"SECRET":"x"}}', ["$.users[...]: Expected int, got str"]),
    (Data, '{"keys":[],"count":-1}', ["$.count: Expected int >= 0"]),
    (Data, '{"keys":[],"header":"bad SECRET"}', ["$: the header '...' is no good"]),
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
    (Model, '{"keys":[],"header":"bad SECRET"}', ["$.header: Value error, the header '...' is no good"]),
    (
        Model,
        '{"keys":[],"pay":{"kind":"SECRET"}}',
        ["$.pay: Input tag '...' found using 'kind' does not match any of the expected tags: 'card', 'cash'"],
    ),
    (Model, "!SECRET", ["$: Invalid JSON: expected value at line 1 column 1"]),
    (PydanticData, '{"count":1}', ["$.count: Input should be greater than or equal to 3"]),
    (Holder, '{"inner":{"keys":[1]}}', ["$.inner.keys[0]: Input should be a valid string"]),
]


@pytest.mark.parametrize(("config_type", "value", "faults"), FAULTS)
def test_faults_name_the_path_and_never_the_value(config_type: Any, value: str, faults: list[str]) -> None:
    """Errors say where and what was expected. A secret is in none of them, nor in what led to them."""
    value = value.replace("SECRET", "271828")
    with pytest.raises(InvalidConfiguration) as caught:
        reader_for(config_type).read(value)
    assert faults == list(caught.value.problems)
    assert "271828" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_what_validators_raise_beside_value_error_comes_through() -> None:
    """The chain turns it into a refusal."""
    with pytest.raises(SystemExit):
        reader_for(Model).read('{"keys":[],"header":"worse"}')


def test_object_reader_gives_a_dict_in_any_case() -> None:
    """`Base` gets {} for what is no object."""
    assert [{"a": 1}, {}, {}, {}] == [ObjectReader().read(value) for value in ('{"a":1}', "[]", "x", "")]


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
    """Defined after the plugin that names it."""

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
def test_the_parameter_is_found(cls: type[Plugin[Any]], expected: object) -> None:
    """The type of the configuration is found through bases, generic ones and names of what comes later too."""
    assert expected == config_type_of(cls)


def test_schema() -> None:
    """Each kind of type has a JSON Schema."""
    assert "keys" in reader_for(Data).schema()["$defs"]["Data"]["properties"]
    assert ["keys"] == reader_for(Model).schema()["required"]
    assert {"type": "string"} == reader_for(str).schema()
    assert {} == UntypedReader().schema()
    assert "inner" in reader_for(Holder).schema()["properties"]
