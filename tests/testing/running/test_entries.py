# SPDX-License-Identifier: Apache-2.0
"""The entries of `plugins=[...]`."""

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from apisix import Plugin, Request
from apisix.runner.errors import ChainRefused
from apisix.testing.running.entries import Offers
from tests.testing.samples import KeyAuth, Old, Older


@dataclass
class Point:
    x: int


class Model(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("entry", "name", "value"),
    [
        ("key-auth", "key-auth", "{}"),
        (("key-auth", None), "key-auth", "{}"),
        (("key-auth", {"keys": ["a"]}), "key-auth", '{"keys":["a"]}'),
        (("key-auth", "raw, as it is"), "key-auth", "raw, as it is"),
        (("key-auth", Point(1)), "key-auth", '{"x":1}'),
        (("key-auth", Model(x=1)), "key-auth", '{"x":1}'),
        (KeyAuth.configured(keys=["a"]), "key-auth", '{"keys":["a"]}'),
        (KeyAuth, "key-auth", "{}"),
        ((KeyAuth, {"keys": ["a"]}), "key-auth", '{"keys":["a"]}'),
        (Old, "old", "{}"),
        ((Older, "raw"), "older", "raw"),
    ],
)
def test_entry(entry: Any, name: str, value: str) -> None:
    """Names, pairs, classes of each API, and the results of `configured` are converted to the `conf` of a route."""
    conf, offered = Offers().conf_of([entry])

    assert conf == ((name, value),)
    is_class = isinstance(entry, type) or isinstance(entry[0], type)
    assert list(offered) == ([name] if is_class else [])


def test_same_class_twice() -> None:
    """A chain can contain a class several times. It is one plugin."""
    offers = Offers()
    conf, offered = offers.conf_of([KeyAuth, (KeyAuth, "x")])

    assert conf == (("key-auth", "{}"), ("key-auth", "x"))
    assert offers.conf_of([KeyAuth])[1] == offered


def test_two_classes_of_one_name() -> None:
    """Two classes of the same name are refused, because the name is ambiguous."""
    other = type("KeyAuth", (KeyAuth,), {})

    with pytest.raises(ValueError, match="two classes in plugins have the name key-auth"):
        Offers().conf_of([KeyAuth, other])


@pytest.mark.parametrize(("entries", "shown"), [("key-auth", "'key-auth'"), (KeyAuth, "KeyAuth")])
def test_entry_instead_of_a_list(entries: Any, shown: str) -> None:
    """If plugins is an entry and not a list, the message contains the list to write."""
    with pytest.raises(TypeError) as caught:
        Offers().conf_of(entries)

    assert str(caught.value) == f"plugins must be a list, not {shown}; write plugins=[{shown}]"


def test_value_that_is_not_json() -> None:
    """The message names the type of a value that can't be part of a configuration."""
    with pytest.raises(TypeError, match="a value of the type object, which can't be encoded as JSON"):
        Offers().conf_of([(KeyAuth, {"keys": object()})])


@pytest.mark.parametrize("entries", [[3], [("a", "b", "c")], [(3, {})], ("key-auth", {}), [dict]])
def test_wrong_entries(entries: Any) -> None:
    """If an entry is wrong, the message shows the correct forms."""
    with pytest.raises(TypeError, match="key-auth"):
        Offers().conf_of(entries)


def test_incorrect_class() -> None:
    """A class is checked as if it were loaded. The error contains its file and line."""

    class Misspelt(Plugin):
        def on_reqest(self, request: Request) -> None: ...

    with pytest.raises(ChainRefused, match=r"test_entries\.py:\d+: Misspelt\.on_reqest is not a hook"):
        Offers().conf_of([Misspelt])

    class Empty(Plugin):
        """Has no hook."""

    with pytest.raises(ChainRefused, match=rf"test_entries\.py:{inspect.getsourcelines(Empty)[1]}: Empty has no hook"):
        Offers().conf_of([Empty])
