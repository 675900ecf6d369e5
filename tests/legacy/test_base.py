# SPDX-License-Identifier: Apache-2.0
"""Plugins that derive from `Base`, as an article of 2021 documents them."""

from pathlib import Path
from typing import Any

import pytest

from apisix.runner.plugin.base import Base
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.chain.chain import ChainStep
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from tests.http.calls import a_request, rewrite, stop
from tests.plugin.conftest import Load


def step_of(registry: Registry, name: str, value: str = "") -> ChainStep:
    """Build a chain of one plugin."""
    chain = build_chain(registry, RouteConfiguration(None, ((name, value),)), response=False)
    assert chain.problem is None
    return chain.steps[0]


def run(step: ChainStep, request: Any) -> Any:
    """Run the hook."""
    return step.hook(request)


def test_config_is_always_a_dict(load: Load) -> None:
    """`config` is the parsed JSON object, or {} if the value is not one."""
    registry = load(
        my_plugin="""
        class MyPlugin(Base):
            def filter(self, request, response):
                response.headers = {"x-config": repr(self.config)}
        """
    )
    for value, config in [('{"a":1}', "{'a': 1}"), ("[1]", "{}"), ("", "{}"), ("no JSON", "{}"), ("\udcff", "{}")]:
        request = a_request()
        assert run(step_of(registry, "my_plugin", value), request) is None
        assert request.headers["x-config"] == config


def test_attributes_are_kept_and_decisions_are_not(load: Load) -> None:
    """The next call gets the attributes that a call sets on `self`, as in release 0.1, but not its `stop()`."""
    registry = load(
        counts="""
        class Counts(Base):
            hits = 0
            def filter(self, request, response):
                self.hits += 1
                response.headers = {"x-hits": str(self.hits)}
                if request.path == "/stop":
                    self.stop()
        """
    )
    step = step_of(registry, "counts")
    assert run(step, a_request("/stop")).status == 200
    request = a_request("/go")
    assert run(step, request) is None
    assert request.headers["x-hits"] == "2"


def test_a_stop_in_init_stops_each_call(load: Load) -> None:
    """The `action` that `__init__` sets is the default of all calls."""
    registry = load(
        closed="""
        class Closed(Base):
            def __init__(self):
                super().__init__()
                self.stop()
            def filter(self, request, response):
                assert self.action == 1
                if request.path == "/open":
                    self.rewrite()
        """
    )
    step = step_of(registry, "closed")
    assert [run(step, a_request(path)) is None for path in ("/", "/open", "/")] == [False, True, False]


def test_a_decision_outside_of_a_call_is_refused(load: Load) -> None:
    """A thread that the plugin starts can't find its call. Without an error, the request would continue."""
    registry = load(
        outside="""
        from concurrent.futures import ThreadPoolExecutor
        class Outside(Base):
            def filter(self, request, response):
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(self.stop).result()
        """
    )
    with pytest.raises(RuntimeError, match="use them in filter"):
        run(step_of(registry, "outside"), a_request())


@pytest.mark.parametrize("call", ["asyncio.run(asyncio.to_thread(self.stop))", "Thread(target=copy_context().run, args=[self.stop]).run()"])
def test_a_decision_in_a_copied_context_belongs_to_the_call(load: Load, call: str) -> None:
    """A thread that runs in a copy of the call's context can stop the call."""
    registry = load(
        copied=f"""
        import asyncio
        from contextvars import copy_context
        from threading import Thread
        class Copied(Base):
            def filter(self, request, response):
                {call}
        """
    )
    assert run(step_of(registry, "copied"), a_request()) is not None


def test_a_decision_after_the_call_is_refused(load: Load) -> None:
    """A copy of the context that outlives `filter` can't stop a call any more, neither this one nor the next."""
    registry = load(
        late="""
        from contextvars import copy_context
        class Late(Base):
            contexts = []
            def filter(self, request, response):
                self.contexts.append(copy_context())
        """
    )
    step = step_of(registry, "late")
    assert run(step, a_request()) is None
    plugin: Any = step.instance
    with pytest.raises(RuntimeError, match="use them in filter"):
        plugin.contexts[0].run(plugin.stop)


def test_the_names_of_release_01_exist() -> None:
    """Plugins can use them. Source: release 0.1."""
    plugin = Base("mine")
    plugin.config = {"a": 1}
    assert (plugin.name, plugin._name, plugin.config, plugin._config, plugin.action) == ("mine", "mine", {"a": 1}, {"a": 1}, 2)
    plugin.stop()
    assert plugin.action == 1
    plugin.config = "no dict"  # type: ignore[assignment]  # release 0.1 accepts it
    assert plugin.config == {}


SHARING = """
class First(Base):
    def filter(self, request, response):
        request.user = "jack"
        response.headers = {"x-a": "1"}
        response.args = {"n": "1"}
        response.status_code = 403
        response.body = "denied"

class Second(Base):
    def filter(self, request, response):
        response.headers["x-user"] = request.user
        if request.path == "/stop":
            self.stop()

class Third(Plugin):
    def on_request(self, request):
        request.headers["x-a"] = "3"
"""


def test_plugins_of_a_chain_share_request_and_response(load: Load) -> None:
    """The second plugin gets what the first one assigned, and its `stop()` sends it."""
    chain = build_chain(
        load(sharing=SHARING),
        RouteConfiguration(
            None,
            (
                ("First", ""),
                ("Second", ""),
            ),
        ),
        response=False,
    )
    request = a_request("/stop")
    assert chain.steps[0].hook(request) is None
    action = stop(request, run(chain.steps[1], request))
    assert (action.status, action.body) == (403, b"denied")
    assert dict(action.headers) == {"x-a": "1", "x-user": "jack", "content-type": "text/plain; charset=utf-8"}


def test_what_an_earlier_plugin_set_is_not_set_twice(load: Load) -> None:
    """An edit of the same header by a plugin between them is kept."""
    chain = build_chain(
        load(sharing=SHARING),
        RouteConfiguration(
            None,
            (
                ("First", ""),
                ("third", ""),
                ("Second", ""),
            ),
        ),
        response=False,
    )
    request = a_request("/go")
    assert [step.hook(request) for step in chain.steps] == [None, None, None]
    action = rewrite(request)
    assert dict(action.headers) == {"x-a": "3", "x-user": "jack"}
    assert list(action.args) == [("n", "1")]


def test_a_copy_keeps_what_was_shared_before_a_plugin_failed(load: Load) -> None:
    """With `on_error: pass`, the chain continues with a copy of the request that was made before the failure."""
    chain = build_chain(
        load(sharing=SHARING),
        RouteConfiguration(
            None,
            (
                ("First", ""),
                ("Second", ""),
            ),
        ),
        response=False,
    )
    request = a_request("/stop")
    chain.steps[0].hook(request)
    before = request.copy()
    chain.steps[1].hook(request)
    assert stop(before, run(chain.steps[1], before)).status == 403


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("response.status_code = '404'", "response.status_code must be an int, got str"),
        ("response.status_code = 404.0", "response.status_code must be an int, got float"),
        ("response.status_code = True", "response.status_code must be an int, got bool"),
        ("response.body = {'a': 1}", r"body must be a str or bytes, got dict; for data, write json.dumps\(...\)"),
        ("response.headers = [('x-a', '1')]", "response.headers must be a dict, got list"),
        ("response.args = 'a=1'", "response.args must be a dict, got str"),
        ("response.path = b'/b'", "response.path must be a str, got bytes"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_where_it_is_assigned(load: Load, line: str, message: str) -> None:
    """The traceback has the author's line. The error is raised even without `stop()`, so that the request does not continue."""
    registry = load(wrong=f"class Wrong(Base):\n    def filter(self, request, response):\n        {line}\n")
    with pytest.raises(TypeError, match=message) as raised:
        run(step_of(registry, "wrong"), a_request())
    assert "wrong.py" in {Path(str(entry.path)).name for entry in raised.traceback}


@pytest.mark.parametrize("name", ["path", "body", "status_code", "headers", "args"])
def test_assigning_none_has_no_effect(load: Load, name: str) -> None:
    registry = load(nothing=f"class Nothing(Base):\n    def filter(self, request, response):\n        response.{name} = None\n")
    request = a_request("/a", [("a", "1")], [("user-agent", "curl")])
    assert run(step_of(registry, "nothing"), request) is None
    assert request.to_message().action is None


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("response.status_code = 403", "call self.stop()"),
        ("response.body = 'no'", "call self.stop()"),
        ("request.headers['x-a'] = '1'", "assign to response.headers"),
        ("request.headers = {'x-a': '1'}", "assign to response.headers"),
        ("del request.headers['user-agent']", "where None deletes a header"),
        ("request.args['a'] = '2'", "assign to response.args"),
        ("request.path = '/b'", "assign to response.path"),
        ("request.method = 'POST'", "assigned request.method, which has no effect: the protocol can't change it"),
        ("request.src_ip = '10.0.0.1'", "assigned request.src_ip, which has no effect: the protocol can't change it"),
    ],
)
def test_an_edit_without_effect_is_logged_once(load: Load, caplog: pytest.LogCaptureFixture, line: str, advice: str) -> None:
    """Release 0.1 ignored such edits without a warning."""
    registry = load(ignored=f"class Ignored(Base):\n    def filter(self, request, response):\n        {line}\n")
    step = step_of(registry, "ignored")
    for _ in range(2):
        assert run(step, a_request("/", [("a", "1")], [("user-agent", "curl")])) is None
    assert [advice in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    "line",
    [
        "headers = request.headers; headers['x-a'] = '1'; response.headers = headers",
        "headers = request.headers; headers['x-a'] = '1'; response.headers = dict(headers)",
        "response.headers = {'user-agent': None}; request.headers.pop('user-agent')",
        "args = request.args; args['b'] = '1'; response.args = args",
        "request.path = '/b'; response.path = '/b'",
        "request.headers['x-a'] = '1'; response.status_code = 403; self.stop()",
    ],
)
def test_an_edit_with_effect_is_not_logged(load: Load, caplog: pytest.LogCaptureFixture, line: str) -> None:
    """The samples of the article change the dicts of the request and assign them to the response."""
    registry = load(passed_on=f"class PassedOn(Base):\n    def filter(self, request, response):\n        {line}\n")
    run(step_of(registry, "passed_on"), a_request("/", [("a", "1")], [("user-agent", "curl")]))
    assert caplog.messages == []


def test_rewrite_undoes_stop(load: Load) -> None:
    """The last call of `stop()` or `rewrite()` decides."""
    registry = load(
        wavering="""
        class Wavering(Base):
            def filter(self, request, response):
                self.stop()
                self.rewrite()
        """
    )
    assert run(step_of(registry, "wavering"), a_request()) is None


def test_init_does_not_have_to_call_super(load: Load) -> None:
    """A plugin works without `super().__init__()`."""
    registry = load(
        plain="""
        class Plain(Base):
            def __init__(self): self.greeting = "hello"
            def filter(self, request, response):
                response.body = self.greeting + self.name
                self.stop()
        """
    )
    assert run(step_of(registry, "plain"), a_request()).body == b"hello"


def test_name_defaults_to_the_class() -> None:
    """The default name of an instance is the name of its class."""
    assert Base().name == "Base"


def test_a_filter_that_a_decorator_made_async(load: Load) -> None:
    """The call fails, because otherwise every request would continue without being checked."""
    registry = load(
        hidden="""
        class Awaitable:
            def __await__(self): yield
        class Hidden(Base):
            def filter(self, request, response): return Awaitable()
        """
    )
    with pytest.raises(TypeError, match="which Base and PluginBase do not support"):
        run(step_of(registry, "hidden"), a_request())


def test_stop_sample() -> None:
    """The sample `stop` replies with a greeting, a header, and the headers of the request."""
    step = step_of(Registry.load(entry_points=False), "stop", '{"body":"hello"}')
    request = a_request("/get", [("a", "1")], [("user-agent", "curl"), ("content-length", "3")])
    action = stop(request, run(step, request))
    assert action.status == 201
    assert action.body == b"Hello, Python Runner of APISIX"
    headers = {str(name).lower(): value for name, value in action.headers}
    assert {"user-agent": "curl", "x-resp-a6-runner": "Python"}.items() <= headers.items()
    assert "content-length" not in headers


def test_rewrite_sample() -> None:
    """The sample `rewrite` adds a header and an argument, and edits nothing else."""
    step = step_of(Registry.load(entry_points=False), "rewrite")
    request = a_request("/get", [("a", "1"), ("flag", None)], [("user-agent", "curl")])
    assert run(step, request) is None
    action = rewrite(request)
    assert list(action.headers) == [("x-resp-a6-runner", "Python")]
    assert list(action.args) == [("a6_runner", "Python")]
    assert action.path is None


def test_a_warning_for_each_plugin_that_sets_content_length(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """The header is not sent. There is one warning for each plugin, and not only one for the process."""
    text = "class {}(Base):\n    def filter(self, request, response):\n        response.headers = {{'content-length': '5'}}\n"
    registry = load(first=text.format("First"), second=text.format("Second"))
    for name in ("first", "second", "first"):
        assert run(step_of(registry, name), a_request("/", headers=[("content-length", "9")])) is None
    expected = [f"plugin {name} sets content-length, which is not sent" for name in ("first", "second")]
    assert [message.partition(":")[0] for message in caplog.messages] == expected
