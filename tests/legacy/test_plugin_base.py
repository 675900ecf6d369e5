# SPDX-License-Identifier: Apache-2.0
"""Plugins that derive from `PluginBase`, as those of release 0.2 do."""

from typing import Any

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.wire.messages import ReqBody, Var
from tests.http.calls import FakeGateway, a_request, rewrite, stop
from tests.plugin.conftest import Load

SAY = """
import json
class Say(PluginBase):
    runs = 0
    def name(self): return "say"
    def config(self, conf):
        Say.runs += 1
        return json.loads(conf)
    def filter(self, conf, request, response):
        if "body" in conf:
            response.set_body(conf["body"])
            response.set_header("X-Runs", str(Say.runs))
        else:
            request.set_header("X-Say", repr(request.get_configs()))
"""


def chain_of(registry: Registry, *conf: tuple[str, str]) -> Chain:
    """Build a chain and check that it is not refused."""
    chain = build_chain(registry, RouteConfiguration(None, tuple(conf)), response=False)
    assert chain.problem is None
    return chain


def reply(chain: Chain, request: Any) -> Any:
    """Run the first hook."""
    return chain.steps[0].hook(request)


def test_config_runs_for_each_call_and_its_result_is_passed_to_filter(load: Load) -> None:
    """Each call runs `config` with the raw string, as in release 0.2. It does not run before the first call."""
    chain = chain_of(load(say=SAY), ("say", '{"body": "hello"}'))
    for runs in ("1", "2"):
        request = a_request()
        action = stop(request, reply(chain, request))
        assert action.body == b"hello"
        assert {str(name).lower(): value for name, value in action.headers}["x-runs"] == runs


def test_a_config_that_fails_does_not_refuse_the_chain(load: Load) -> None:
    """Only the call for which `config` fails is refused. `configure` finds the failure without a call."""
    registry = load(
        strict="""
        class Strict(PluginBase):
            def name(self): return "strict"
            def config(self, conf): raise KeyError(conf)
            def filter(self, conf, request, response): pass
        """
    )
    chain = chain_of(registry, ("strict", "s3cret"))
    configure = chain.steps[0].configure
    assert configure is not None
    for configures in (configure, lambda: reply(chain, a_request())):
        with pytest.raises(ChainRefused, match=r"^it can't be configured: KeyError: '\.\.\.' \(.*strict\.py:\d+\)$"):
            configures()


def test_edits_of_the_request(load: Load) -> None:
    """If nothing is set on the response, the request continues with its edits. The configurations of the route can be read."""
    chain = chain_of(load(say=SAY), ("say", "{}"))
    request = a_request()
    assert reply(chain, request) is None
    assert list(rewrite(request).headers) == [("x-say", "{'say': '{}'}")]


def test_config_is_optional(load: Load) -> None:
    """Without `config`, `filter` gets None, as in release 0.2. The methods of the base class return None."""
    registry = load(
        raw="""
        class Raw(PluginBase):
            def name(self): return "raw"
            def filter(self, conf, request, response):
                response.set_body(repr((conf, super().filter(conf, request, response), super().name(), super().config(conf))))
        """
    )
    assert reply(chain_of(registry, ("raw", "as it is")), a_request()).body == b"(None, None, None, None)"


def test_each_configuration_has_its_instance(load: Load) -> None:
    """A route does not get what `config` stored in `self` for another route."""
    registry = load(
        keeps="""
        class Keeps(PluginBase):
            def name(self): return "keeps"
            def config(self, conf): self.conf = conf
            def filter(self, conf, request, response): response.set_body(self.conf)
        """
    )
    first, second = chain_of(registry, ("keeps", "1")), chain_of(registry, ("keeps", "2"))
    assert reply(first, a_request()).body == b"1"
    assert reply(second, a_request()).body == b"2"


TAKES = """
class Text(str): pass
class Binary(bytes): pass
class Takes(PluginBase):
    def name(self): return "takes"
    def filter(self, conf, request, response):
        {}
"""


@pytest.mark.parametrize(
    ("line", "body", "headers"),
    [
        ("response.set_body(request.get_body())", "für", {}),
        ("response.set_body(Binary(b'f'))", "f", {}),
        ("response.set_header('x-who', request.get_var('who')); response.set_body('f')", "f", {"x-who": "Jörg"}),
        ("response.set_header(Text('x-who'), Text('me')); response.set_body(Text('f'))", "f", {"x-who": "me"}),
        ("response.set_headers({Text('x-who'): request.get_var('who')}); response.set_body('f')", "f", {"x-who": "Jörg"}),
        ("response.get_headers()['x-who'] = request.get_var('who'); response.set_body('f')", "f", {"x-who": "Jörg"}),
    ],
)
def test_a_response_accepts_values_of_the_request(load: Load, line: str, body: str, headers: dict[str, str]) -> None:
    """Bodies and variables can be of a subclass of str, which typed variables in compiled code do not accept."""
    request = a_request(gateway=FakeGateway({ReqBody(): "für".encode(), Var("who"): "Jörg".encode()}))
    action = stop(request, reply(chain_of(load(takes=TAKES.format(line)), ("takes", "")), request))
    assert bytes(action.body).decode() == body
    assert headers.items() <= dict(action.headers).items()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("request.set_header('x-who', request.get_var('who'))", {"headers": [("x-who", "Jörg")]}),
        ("request.set_header(Text('x-who'), Text('me'))", {"headers": [("x-who", "me")]}),
        ("request.set_headers({'x-who': request.get_var('who')})", {"headers": [("x-who", "Jörg")]}),
        ("request.get_headers()[Text('x-who')] = request.get_var('who')", {"headers": [("x-who", "Jörg")]}),
        ("request.set_arg('who', request.get_var('who'))", {"args": [("who", "Jörg")]}),
        ("request.set_args({Text('who'): request.get_var('who')})", {"args": [("who", "Jörg")]}),
        ("request.get_args()['who'] = request.get_var('who')", {"args": [("who", "Jörg")]}),
        ("request.set_uri(Text('/b'))", {"path": "/b"}),
        ("request.set_body(request.get_var('who'))", {"body": "Jörg".encode()}),
        ("request.set_body(Binary(b'f'))", {"body": b"f"}),
    ],
)
def test_a_request_accepts_its_own_values(load: Load, line: str, expected: dict[str, Any]) -> None:
    """Same as for the response."""
    request = a_request(gateway=FakeGateway({ReqBody(): "für".encode(), Var("who"): "Jörg".encode()}))
    assert reply(chain_of(load(takes=TAKES.format(line)), ("takes", "")), request) is None
    action = rewrite(request)
    found = {"headers": list(action.headers), "args": list(action.args), "path": action.path, "body": bytes(action.body)}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("missing", ["name", "filter"])
def test_name_and_filter_must_be_defined(load: Load, missing: str) -> None:
    """Those of the base class do nothing, so a class that only inherits them is refused when it is loaded."""
    methods = {"name": "def name(self): return 'lacks'", "filter": "def filter(self, conf, request, response): pass"}
    del methods[missing]
    (problem,) = load(lacks=f"class Lacks(PluginBase):\n    {next(iter(methods.values()))}\n").problems
    assert problem.reason.startswith(f"Lacks has no {missing}(self")


@pytest.mark.parametrize(
    ("line", "blocking"),
    [
        ("pass", None),
        ("blocking = True", True),
        ("blocking = False", False),
        ("def get(self): return asyncio.run(self.get_async())", True),
        ("def get(self): return asyncio.new_event_loop().run_until_complete(self.get_async())", True),
        ("blocking = False; get = lambda self: asyncio.run(self.get_async())", False),
    ],
)
@pytest.mark.parametrize("base", ["Base", "PluginBase"])
def test_an_event_loop_of_its_own_needs_a_thread(load: Load, base: str, line: str, blocking: bool | None) -> None:
    """`blocking` is the attribute of the class. Without one, it is True if the file runs a loop, which needs a thread without one."""
    methods = "def name(self): return 'loops'\n    " if base == "PluginBase" else ""
    takes = "self, conf, request, response" if base == "PluginBase" else "self, request, response"
    registry = load(loops=f"import asyncio\nclass Loops({base}):\n    {line}\n    {methods}def filter({takes}): pass\n")
    assert [found.blocking for found in registry.types] == [blocking]


def test_a_warning_for_a_plugin_that_sets_content_length(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """The header is not sent, whether it is set by a method or in the dict. One warning has the name of the plugin."""
    registry = load(
        guard="""
        class Guard(PluginBase):
            def name(self): return "guard"
            def config(self, conf): return conf
            def filter(self, conf, request, response):
                if conf: request.set_header("content-length", "5")
                else: request.get_headers()["content-length"] = "5"
        """
    )
    for value in ("by its method", ""):
        assert reply(chain_of(registry, ("guard", value)), a_request("/", headers=[("content-length", "9")])) is None
    assert [message.partition(":")[0] for message in caplog.messages] == ["plugin guard sets content-length, which is not sent"]
