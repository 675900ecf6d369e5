# SPDX-License-Identifier: Apache-2.0
"""Building the chain of a route configuration, and all reasons why a chain is refused."""

import inspect
from typing import Any

import pytest

from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.chain.chain import COROUTINE, INLINE, Chain, ChainStep
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration, phase_of
from apisix.runner.plugin.loading.registry import Registry
from tests.http.calls import a_request, rewrite
from tests.plugin.conftest import Load

PLUGINS = """
import dataclasses

@dataclasses.dataclass
class Conf:
    tag: str
    count: int = 1

class Tag(Plugin[Conf]):
    needs = ("body",)
    on_error = "pass"
    def on_request(self, request):
        request.headers["x-tags"] = request.headers.get("x-tags", "") + self.config.tag

class Both(Plugin):
    async def on_request(self, request): return Reply(401)
    def on_response(self, response): ...
    async def setup(self): ...
    async def close(self): ...

class Own(Plugin):
    def __init__(self): self.mine = [self.config]
    def on_request(self, request): ...

class Fails(Plugin):
    def __init__(self):
        raise SystemExit("no")
    def on_request(self, request): ...

class Quotes(Plugin):
    def __init__(self):
        raise KeyError(self.config)
    def on_request(self, request): ...

class Faulty(Plugin):
    def on_reqest(self, request): ...

class Tagging(Base):
    def filter(self, request, response):
        response.headers = {"x-tags": request.headers["X-Tags"] + self.config["tag"]}

class Old(PluginBase):
    def name(self): return "old"
    def config(self, conf): return conf
    def filter(self, conf, request, response):
        request.set_header("X-Tags", request.get_header("X-Tags") + conf)
"""


@pytest.fixture
def registry(load: Load) -> Registry:
    """Load the plugins above."""
    return load(plugins=PLUGINS)


def build(registry: Registry, *conf: tuple[str, str], response: bool = False, key: str | None = None) -> Chain:
    """Build a chain."""
    return build_chain(registry, RouteConfiguration(key, tuple(conf)), response=response)


def steps(chain: Chain) -> tuple[ChainStep, ...]:
    """Return the steps of a chain that must not be refused."""
    assert chain.problem is None
    return chain.steps


def run(chain: Chain, request: Any) -> list[object]:
    """Run all hooks of a chain without coroutines."""
    return [step.hook(request) for step in steps(chain)]


def test_three_apis_in_one_chain(registry: Registry) -> None:
    """Plugins of all APIs run in the gateway's order, and each gets the edits of the earlier ones."""
    chain = build(registry, ("old", "1"), ("tag", '{"tag":"2"}'), ("Tagging", '{"tag":"3"}'), ("old", "4"))
    request = a_request(headers=[("x-tags", "0")])
    assert run(chain, request) == [None] * 4
    assert list(rewrite(request).headers) == [("x-tags", "01234")]


def test_attributes_of_a_step(registry: Registry) -> None:
    """A step has the attributes of its plugin."""
    tag, both = steps(build(registry, ("tag", '{"tag":"x"}'), ("both", "")))
    assert (tag.name, tag.how_it_runs, tag.needs, tag.on_error, tag.setup, tag.close) == ("tag", INLINE, ("body",), "pass", None, None)
    assert tag.plugin_type is registry.get("tag")
    assert (both.name, both.how_it_runs, both.needs, both.on_error) == ("both", COROUTINE, (), "refuse")
    assert both.setup is not None
    assert not both.setup.done
    assert inspect.iscoroutinefunction(both.close)


async def test_a_coroutine_hook(registry: Registry) -> None:
    """The result of the coroutine is the reply."""
    (both,) = steps(build(registry, ("both", "")))
    result: Any = both.hook(a_request())
    reply = await result
    assert isinstance(reply, Reply)
    assert reply.status == 401


def test_the_same_plugin_twice(registry: Registry) -> None:
    """Each entry has its own instance and configuration."""
    first, second = steps(build(registry, ("tag", '{"tag":"a"}'), ("tag", '{"tag":"b"}')))
    assert first.instance is not second.instance
    assert [step.instance.config.tag for step in (first, second)] == ["a", "b"]  # type: ignore[attr-defined]


def test_init_of_a_plugin(registry: Registry) -> None:
    """An author's `__init__` can use the configuration."""
    (own,) = steps(build(registry, ("own", '{"a":1}')))
    assert (own.instance.mine, own.instance.config) == ([{"a": 1}], {"a": 1})  # type: ignore[attr-defined]


def test_an_empty_configuration(registry: Registry) -> None:
    """A route does not have to list a plugin."""
    chain = build(registry, key="route#1#ext-plugin-pre-req#2")
    assert (chain.key, chain.steps, chain.phase, chain.problem) == ("route#1#ext-plugin-pre-req#2", (), Phase.PRE_REQ, None)


REFUSED = {
    "unknown": (("tagg", ""), "there is no plugin of this name; did you mean tag?"),
    "nothing similar": (("zzz", ""), "there is no plugin of this name"),
    "faulty": (("faulty", ""), "it could not be loaded: "),
    "configuration": (("tag", '{"count":"x"}'), "$.count: Expected int, got str"),
    "empty configuration": (("tag", ""), "$.tag: a value is required (the route has no value, which is read as {})"),
    "init": (("fails", ""), "it can't be configured: SystemExit: no ("),
    "init with a secret": (("quotes", "bad secret"), "it can't be configured: KeyError: '...' ("),
}


@pytest.mark.parametrize(("entry", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusals(registry: Registry, entry: tuple[str, str], reason: str) -> None:
    """A chain that can't run is refused with the plugin's name and the reason, and has no steps."""
    chain = build(registry, entry)
    assert chain.steps == ()
    assert chain.problem is not None
    assert chain.problem.startswith(f"plugin 1 of 1, {entry[0]}: {reason}")


def test_the_refusal_has_the_line_that_raised(registry: Registry) -> None:
    """If the author's code raises an exception, the refusal has its file and line."""
    found = registry.get("fails")
    line = PLUGINS.splitlines().index('        raise SystemExit("no")') + 2
    assert found is not None
    chain = build(registry, ("fails", ""))
    assert str(chain.problem).endswith(f"plugins.py:{line})")


def test_the_refusal_has_all_reasons(registry: Registry) -> None:
    """A route with three mistakes has three lines. There is no line for the valid plugin."""
    chain = build(registry, ("zzz", ""), ("both", ""), ("tag", "{}"), ("faulty", ""))
    assert [line.partition(":")[0] for line in str(chain.problem).splitlines()] == [
        "plugin 1 of 4, zzz",
        "plugin 3 of 4, tag",
        "plugin 4 of 4, faulty",
    ]


def test_hooks_and_phases(registry: Registry) -> None:
    """A plugin without the hook of the phase is refused. Legacy plugins are always refused in the response phase."""
    assert "it has no on_response" in str(build(registry, ("own", ""), response=True).problem)
    for name in ("Tagging", "old"):
        assert "which has no response phase" in str(build(registry, (name, ""), response=True).problem)
    (both,) = steps(build(registry, ("both", ""), response=True))
    assert both.how_it_runs == INLINE


def test_a_plugin_for_responses_only(load: Load) -> None:
    """It is refused in the request phases. The message has the phase from the key."""
    registry = load(only="class Only(Plugin):\n    def on_response(self, response): ...\n")
    refusal = str(build(registry, ("only", ""), key="route#1#ext-plugin-post-req#1").problem)
    assert "it has no on_request, so it can't be used under ext-plugin-post-req; name it under ext-plugin-post-resp" in refusal
    assert "under a request phase" in str(build(registry, ("only", "")).problem)


@pytest.mark.parametrize(
    ("key", "phase"),
    [
        ("route#1#ext-plugin-pre-req#42", Phase.PRE_REQ),
        ("route#1#ext-plugin-post-req#42", Phase.POST_REQ),
        ("plugin_config&route#a#b#c#ext-plugin-post-resp#1&2", Phase.POST_RESP),
        ("route#pc#ext-plugin-post-resp#1795858440#1795858440", Phase.POST_RESP),
        ("route&service#a&b#ext-plugin-post-req#1&2", Phase.POST_REQ),
        ("service#a#ext-plugin-pre-req#1", Phase.PRE_REQ),
        ("route&consumer#a&jack#ext-plugin-pre-req#1&2", Phase.PRE_REQ),
        ("route&service&consumer#a&b&jack#ext-plugin-post-resp#1&2#3&4", Phase.POST_RESP),
        ("global_rule#1#ext-plugin-post-resp#1", Phase.POST_RESP),
        ("route#ext-plugin-pre-req#ext-plugin-post-req#1#2", Phase.POST_REQ),
        ("route#1#something#42", None),
        ("1", None),
        ("", None),
        (None, None),
    ],
)
def test_phase_of(key: str | None, phase: Phase | None) -> None:
    """The phase is the last part that is the name of one. Ids before it can be any text, and versions after it any number of parts."""
    assert phase_of(key) == phase


def test_the_phase_of_a_chain(registry: Registry) -> None:
    """The response phase does not have to be in the key."""
    assert Phase.POST_RESP is build(registry, response=True).phase
    assert Phase.POST_REQ is build(registry, key="route#1#ext-plugin-post-req#1").phase
    assert build(registry).phase is None
