# SPDX-License-Identifier: Apache-2.0
"""`Plugin`, the base of new plugins."""

import doctest
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from apisix import Plugin
from apisix.runner.plugin import plugin


class KeyAuth(Plugin):
    """A plugin that is named by its class."""


class Named(KeyAuth):
    """A plugin that has a name of its own."""

    name = "given"


class Heir(Named):
    """A plugin that derives from one that has a name."""


@dataclass
class Limit:
    """A configuration."""

    count: int


class Model(BaseModel):
    """A configuration of pydantic's."""

    keys: frozenset[str]


@pytest.mark.parametrize(("cls", "name"), [(KeyAuth, "key-auth"), (Named, "given"), (Heir, "heir")])
def test_name(cls: type[Plugin], name: str) -> None:
    """The name is the class's in kebab-case or the one that is given; it is not inherited."""
    assert name == cls.name


def test_configured() -> None:
    """A route's entry is written from fields, from any value, or from the string itself."""
    assert ("key-auth", '{"keys":["alpha"]}') == KeyAuth.configured(keys=["alpha"])
    assert ("key-auth", '{"keys":["alpha"]}') == KeyAuth.configured(keys={"alpha"})
    assert ("key-auth", '{"count":3}') == KeyAuth.configured(Limit(3))
    assert ("key-auth", '{"keys":["alpha"]}') == KeyAuth.configured(Model(keys=frozenset({"alpha"})))
    assert ("key-auth", '{"inner":{"keys":["a"]}}') == KeyAuth.configured(inner=Model(keys=frozenset("a")))
    assert ("key-auth", "no JSON") == KeyAuth.configured("no JSON")
    assert ("key-auth", "{}") == KeyAuth.configured()


def test_configured_refuses_two_answers() -> None:
    """A whole configuration and single fields would contradict each other."""
    with pytest.raises(TypeError, match="not both"):
        KeyAuth.configured({}, keys=[])


def test_configured_refuses_what_is_no_json() -> None:
    """What JSON can't hold is an error of the test that wrote it."""
    with pytest.raises(TypeError, match="object can't be written as JSON"):
        KeyAuth.configured(key=object())


def test_examples() -> None:
    """The examples in the docstrings hold."""
    assert 0 == doctest.testmod(plugin).failed
