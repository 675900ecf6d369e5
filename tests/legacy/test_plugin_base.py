# SPDX-License-Identifier: Apache-2.0
"""`PluginBase`: plugins that were written for release 0.2."""

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
    """Build a chain that must not be refused."""
    chain = build_chain(registry, RouteConfiguration(None, tuple(conf)), response=False)
    assert chain.refusal is None
    return chain


def answer(chain: Chain, request: Any) -> Any:
    """Run the first hook."""
    return chain.steps[0].hook(request)


def test_config_runs_for_each_call_and_its_result_goes_to_filter(load: Load) -> None:
    """`config` gets the raw string in each call, as in release 0.2, and does not run before."""
    chain = chain_of(load(say=SAY), ("say", '{"body": "hello"}'))
    for runs in ("1", "2"):
        request = a_request()
        action = stop(request, answer(chain, request))
        assert action.body == b"hello"
        assert {str(name).lower(): value for name, value in action.headers}["x-runs"] == runs


def test_a_config_that_fails_does_not_refuse_the_chain(load: Load) -> None:
    """Each call that can't be configured is refused by itself. `configure` finds it without a call."""
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
    for configures in (configure, lambda: answer(chain, a_request())):
        with pytest.raises(ChainRefused, match=r"^it can't be configured: KeyError: '\.\.\.' \(.*strict\.py:\d+\)$"):
            configures()


def test_edits_of_the_request_go_on(load: Load) -> None:
    """Without anything set on the response the request goes on with its edits; the route's configurations can be read."""
    chain = chain_of(load(say=SAY), ("say", "{}"))
    request = a_request()
    assert answer(chain, request) is None
    assert [("x-say", "{'say': '{}'}")] == list(rewrite(request).headers)


def test_config_may_be_left_out(load: Load) -> None:
    """Without `config`, `filter` gets None, as in release 0.2. The methods of the base return None too."""
    registry = load(
        raw="""
        class Raw(PluginBase):
            def name(self): return "raw"
            def filter(self, conf, request, response):
                response.set_body(repr((conf, super().filter(conf, request, response), super().name(), super().config(conf))))
        """
    )
    assert b"(None, None, None, None)" == answer(chain_of(registry, ("raw", "as it is")), a_request()).body


def test_each_configuration_has_its_instance(load: Load) -> None:
    """What `config` stores in `self` is not another route's."""
    registry = load(
        keeps="""
        class Keeps(PluginBase):
            def name(self): return "keeps"
            def config(self, conf): self.conf = conf
            def filter(self, conf, request, response): response.set_body(self.conf)
        """
    )
    first, second = chain_of(registry, ("keeps", "1")), chain_of(registry, ("keeps", "2"))
    assert b"1" == answer(first, a_request()).body
    assert b"2" == answer(second, a_request()).body


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
def test_a_response_takes_what_the_request_gave(load: Load, line: str, body: str, headers: dict[str, str]) -> None:
    """Bodies and variables are of a subclass of str. Compiled code is particular about those."""
    request = a_request(gateway=FakeGateway({ReqBody(): "für".encode(), Var("who"): "Jörg".encode()}))
    action = stop(request, answer(chain_of(load(takes=TAKES.format(line)), ("takes", "")), request))
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
def test_a_request_takes_what_it_gave(load: Load, line: str, expected: dict[str, Any]) -> None:
    """As above, for edits of the request."""
    request = a_request(gateway=FakeGateway({ReqBody(): "für".encode(), Var("who"): "Jörg".encode()}))
    assert answer(chain_of(load(takes=TAKES.format(line)), ("takes", "")), request) is None
    action = rewrite(request)
    found = {"headers": list(action.headers), "args": list(action.args), "path": action.path, "body": bytes(action.body)}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("missing", ["name", "filter"])
def test_name_and_filter_have_to_be_defined(load: Load, missing: str) -> None:
    """Those of the base do nothing, so a class without its own is refused when it is loaded."""
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
    """`blocking` is what the class says, and True if its file runs a loop: that fails on the runner's own loop, and worked before."""
    methods = "def name(self): return 'loops'\n    " if base == "PluginBase" else ""
    takes = "self, conf, request, response" if base == "PluginBase" else "self, request, response"
    registry = load(loops=f"import asyncio\nclass Loops({base}):\n    {line}\n    {methods}def filter({takes}): pass\n")
    assert [found.blocking for found in registry.types] == [blocking]


def test_a_plugin_that_sets_content_length_is_named_in_a_warning(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Set by its method or in the dict, the header is not sent, and one warning names the plugin."""
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
        assert answer(chain_of(registry, ("guard", value)), a_request("/", headers=[("content-length", "9")])) is None
    assert [message.partition(":")[0] for message in caplog.messages] == ["plugin guard sets content-length, which is not sent"]
