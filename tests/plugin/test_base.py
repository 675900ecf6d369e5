# SPDX-License-Identifier: Apache-2.0
"""`Base`: plugins as the article of 2021 documents them."""

from typing import Any

import pytest

from apisix.runner.plugin.base import Base
from apisix.runner.plugin.chain import Link, build_chain
from apisix.runner.plugin.registry import Registry
from tests.http.calls import a_request, rewrite, stop
from tests.plugin.conftest import Load


def link_of(registry: Registry, name: str, value: str = "") -> Link:
    """Build a chain of one plugin."""
    chain = build_chain(registry, [(name, value)], None, response=False)
    assert chain.refusal is None
    return chain.links[0]


def run(link: Link, request: Any) -> Any:
    """Run the hook."""
    return link.hook(request)


def test_config_is_a_dict_whatever_comes(load: Load) -> None:
    """`config` is the parsed object, and {} where the value is none."""
    registry = load(
        my_plugin="""
        class MyPlugin(Base):
            def filter(self, request, response):
                response.headers = {"x-config": repr(self.config)}
        """
    )
    for value, config in [('{"a":1}', "{'a': 1}"), ("[1]", "{}"), ("", "{}"), ("no JSON", "{}"), ("\udcff", "{}")]:
        request = a_request()
        assert run(link_of(registry, "my_plugin", value), request) is None
        assert config == request.headers["x-config"]


def test_no_state_leaks_from_call_to_call(load: Load) -> None:
    """What a call writes to `self`, its stop() too, is gone in the next one."""
    registry = load(
        once="""
        class Once(Base):
            def filter(self, request, response):
                response.headers = {"x-seen": str(getattr(self, "seen", 0))}
                self.seen = 1
                if request.path == "/stop":
                    self.stop()
        """
    )
    link = link_of(registry, "once")
    assert 200 == run(link, a_request("/stop")).status
    request = a_request("/go")
    assert run(link, request) is None
    assert "0" == request.headers["x-seen"]


@pytest.mark.parametrize("special", ["__slots__ = ('seen',)", "def __copy__(self): return Special()", "def __getstate__(self): return {}"])
def test_special_classes_are_copied_as_they_want(load: Load, special: str) -> None:
    """A class that says how it is copied, or keeps its attributes elsewhere, works too."""
    registry = load(
        special=f"""
        class Special(Base):
            {special}
            def filter(self, request, response):
                response.headers = {{"x-seen": str(getattr(self, "seen", 0))}}
                self.seen = 1
        """
    )
    link = link_of(registry, "special")
    for _ in range(2):
        request = a_request()
        run(link, request)
        assert "0" == request.headers["x-seen"]


def test_rewrite_takes_a_stop_back(load: Load) -> None:
    """The last of stop() and rewrite() counts."""
    registry = load(
        wavering="""
        class Wavering(Base):
            def filter(self, request, response):
                self.stop()
                self.rewrite()
        """
    )
    assert run(link_of(registry, "wavering"), a_request()) is None


def test_an_init_of_ones_own_need_not_call_ours(load: Load) -> None:
    """A class without `super().__init__` is a plugin all the same."""
    registry = load(
        plain="""
        class Plain(Base):
            def __init__(self): self.greeting = "hello"
            def filter(self, request, response):
                response.body = self.greeting + self.name
                self.stop()
        """
    )
    assert b"hello" == run(link_of(registry, "plain"), a_request()).body


def test_name_defaults_to_the_class() -> None:
    """Without a name of its own an instance bears the class's."""
    assert "Base" == Base().name


def test_hidden_coroutine_does_not_pass_for_a_filter_that_ran(load: Load) -> None:
    """A filter that is async behind a decorator fails the call: it would let everything through."""
    registry = load(
        hidden="""
        class Awaitable:
            def __await__(self): yield
        class Hidden(Base):
            def filter(self, request, response): return Awaitable()
        """
    )
    with pytest.raises(TypeError, match="which Base and PluginBase do not know"):
        run(link_of(registry, "hidden"), a_request())


def test_stop_sample() -> None:
    """The documented `stop` answers with the greeting, its header, and the request's headers beside it."""
    link = link_of(Registry.load(entry_points=False), "stop", '{"body":"hello"}')
    request = a_request("/get", [("a", "1")], [("user-agent", "curl"), ("content-length", "3")])
    action = stop(request, run(link, request))
    assert 201 == action.status
    assert b"Hello, Python Runner of APISIX" == action.body
    headers = {str(name).lower(): value for name, value in action.headers}
    assert {"user-agent": "curl", "x-resp-a6-runner": "Python"}.items() <= headers.items()
    assert "content-length" not in headers


def test_rewrite_sample() -> None:
    """The documented `rewrite` adds a header and an argument, and sends nothing else."""
    link = link_of(Registry.load(entry_points=False), "rewrite")
    request = a_request("/get", [("a", "1"), ("flag", None)], [("user-agent", "curl")])
    assert run(link, request) is None
    action = rewrite(request)
    assert [("x-resp-a6-runner", "Python")] == list(action.headers)
    assert [("a6_runner", "Python")] == list(action.args)
    assert action.path is None
