# SPDX-License-Identifier: Apache-2.0
"""What may stand in `plugins=[...]`."""

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
    """Names, pairs, classes of each generation, and what `configured` returns become what a route's `conf` holds."""
    conf, offered = Offers().conf_of([entry])

    assert ((name, value),) == conf
    is_class = isinstance(entry, type) or isinstance(entry[0], type)
    assert ([name] if is_class else []) == list(offered)


def test_same_class_twice() -> None:
    """A class may stand in a chain several times, and is one plugin."""
    offers = Offers()
    conf, offered = offers.conf_of([KeyAuth, (KeyAuth, "x")])

    assert (("key-auth", "{}"), ("key-auth", "x")) == conf
    assert offered == offers.conf_of([KeyAuth])[1]


def test_two_classes_of_one_name() -> None:
    """Which of two is meant can't be told."""
    other = type("KeyAuth", (KeyAuth,), {})

    with pytest.raises(ValueError, match="two classes of one chain have the name key-auth"):
        Offers().conf_of([KeyAuth, other])


@pytest.mark.parametrize("entries", ["key-auth", KeyAuth, [3], [("a", "b", "c")], [(3, {})], ("key-auth", {}), [dict]])
def test_what_is_no_plugin(entries: Any) -> None:
    """What is no list, or no entry, is refused with the forms that there are."""
    with pytest.raises(TypeError, match="key-auth"):
        Offers().conf_of(entries)


def test_faulty_class() -> None:
    """A class is checked as loading does it, and refused with file and line."""

    class Misspelt(Plugin):
        def on_reqest(self, request: Request) -> None: ...

    with pytest.raises(ChainRefused, match=r"test_entries\.py:\d+: Misspelt\.on_reqest is not a hook"):
        Offers().conf_of([Misspelt])

    class Empty(Plugin):
        """Has no hook."""

    with pytest.raises(ChainRefused, match=rf"test_entries\.py:{inspect.getsourcelines(Empty)[1]}: Empty has no hook"):
        Offers().conf_of([Empty])
