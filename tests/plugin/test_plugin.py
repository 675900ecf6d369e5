# SPDX-License-Identifier: Apache-2.0
"""`Plugin`, the base class of new plugins."""

import doctest
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from apisix import Plugin
from apisix.runner.plugin import plugin


class KeyAuth(Plugin):
    """A plugin whose name is derived from its class."""


class Named(KeyAuth):
    """A plugin that defines its name."""

    name = "given"


class Derived(Named):
    """A plugin that derives from one that defines its name."""


@dataclass
class Limit:
    """A configuration."""

    count: int


class Model(BaseModel):
    """A configuration as a pydantic model."""

    keys: frozenset[str]


@pytest.mark.parametrize(("cls", "name"), [(KeyAuth, "key-auth"), (Named, "given"), (Derived, "derived")])
def test_name(cls: type[Plugin], name: str) -> None:
    """The name is that of the class in kebab-case, unless the class defines one. It is not inherited."""
    assert cls.name == name


def test_configured() -> None:
    """An entry of a route is made from fields, from any value, or from a string."""
    assert KeyAuth.configured(keys=["alpha"]) == ("key-auth", '{"keys":["alpha"]}')
    assert KeyAuth.configured(keys={"alpha"}) == ("key-auth", '{"keys":["alpha"]}')
    assert KeyAuth.configured(Limit(3)) == ("key-auth", '{"count":3}')
    assert KeyAuth.configured(Model(keys=frozenset({"alpha"}))) == ("key-auth", '{"keys":["alpha"]}')
    assert KeyAuth.configured(inner=Model(keys=frozenset("a"))) == ("key-auth", '{"inner":{"keys":["a"]}}')
    assert KeyAuth.configured("no JSON") == ("key-auth", "no JSON")
    assert KeyAuth.configured() == ("key-auth", "{}")


def test_configured_refuses_a_configuration_and_fields() -> None:
    """Only one of them can be given."""
    with pytest.raises(TypeError, match="not both"):
        KeyAuth.configured({}, keys=[])


def test_configured_refuses_values_that_are_not_json() -> None:
    """A value that can't be converted to JSON raises TypeError."""
    with pytest.raises(TypeError, match="object can't be converted to JSON"):
        KeyAuth.configured(key=object())


def test_examples() -> None:
    """The examples in the docstrings are correct."""
    assert doctest.testmod(plugin).failed == 0
