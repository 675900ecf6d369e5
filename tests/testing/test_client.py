# SPDX-License-Identifier: Apache-2.0
"""The test client in plain tests."""

import asyncio
import gzip
import traceback
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict, MultiDict

from apisix import Plugin, Reply, Request
from apisix.runner.errors import BodyError, MessageTooLarge, UnsupportedEdit
from apisix.testing import ChainRefused, Client, ClientResponse, DeadlineExceeded
from tests.testing import samples
from tests.testing.samples import KeyAuth


def test_reply(client: Client) -> None:
    """If a plugin stops a request, the result has a reply, and the request does not reach the upstream."""
    result = client.get("/users?flag", headers={"x-api-key": "nope"}, plugins=[(KeyAuth, {"keys": ["alpha"]})])

    assert result.reply.status == 401
    assert result.reply.json() == {"error": "unknown key"}
    assert result.reply.headers["Content-Type"] == "application/json"
    assert result.stopped


def test_upstream(client: Client) -> None:
    """If no plugin stops a request, the result has no reply, and contains what the upstream gets."""
    result = client.post(
        "/users?flag", body=b"...", vars={"consumer_name": "jack"}, plugins=[(KeyAuth, {"keys": ["alpha"]})], headers={"X-Api-Key": "alpha"}
    )

    assert not result.stopped
    assert result.upstream.headers["X-Authenticated"] == "yes"
    assert (result.upstream.method, result.upstream.path, result.upstream.query, result.upstream.body) == ("POST", "/users", "flag", b"...")
    assert result.upstream.args == MultiDict(flag="")


def test_all_edits(client: Client) -> None:
    """The upstream's request has all edits, and the result contains the headers that were set on the client's response."""
    result = client.put("/old?a=1&b=2&c=3", headers={"x-old": "1"}, body="body", plugins=[samples.Edit])

    upstream = result.upstream
    assert (upstream.path, upstream.query, upstream.body) == ("/new path", "a=changed&a=again&c=3", b"<body>")
    assert upstream.headers == CIMultiDict({"host": "127.0.0.1", "content-length": "6", "x-new": "1"})
    assert upstream.text == "<body>"
    assert result.client_headers == CIMultiDict({"x-seen": "yes"})
    assert result.asked == ("body",)


def test_chain_of_all_apis(client: Client) -> None:
    """Plugins of all APIs run in one chain, in order."""
    result = client.get(
        "/", headers={"x-api-key": "k"}, plugins=[(samples.Old, {"tag": "first"}), (samples.Older, "raw"), (KeyAuth, {"keys": ["k"]})]
    )

    headers = result.upstream.headers
    assert (headers["x-old"], headers["x-older"], headers["x-authenticated"]) == ("first", "raw", "yes")
    assert [effect.plugin for effect in result.effects] == ["old", "older", "key-auth"]
    assert result.effects[1].changes == ("header x-older added",)


@pytest.mark.parametrize("plugin", [samples.Show, samples.ShowAsync, samples.ShowBlocking])
def test_info_requests(client: Client, plugin: type[Plugin]) -> None:
    """Plugins of each kind get info replies. Variables that are not set do not exist. The result contains the info requests."""
    asked = ["consumer_name", "body", "unknown", "consumer_name"]
    result = client.post("/", body="hello", vars={"consumer_name": "jack"}, plugins=[(plugin, asked)])

    assert result.reply.json() == ["jack", "hello", None, "jack"]
    assert result.asked == ("consumer_name", "body", "unknown")
    assert result.reply.headers.get("x-thread") == ("blocking-plugin" if plugin is samples.ShowBlocking else None)


def test_needs(client: Client) -> None:
    """The info requests of `needs` are sent before the hook runs, one directly after the other."""
    result = client.post("/", body="hello", vars={"consumer_name": "jack"}, plugins=[samples.Needs])

    assert result.reply.text == "hello jack"
    assert result.asked == ("body", "consumer_name")


@pytest.mark.parametrize("plugin", [samples.Fail, samples.FailAsync, samples.FailBlocking])
@pytest.mark.parametrize("kind", ["value", "exit"])
def test_exceptions_are_raised(client: Client, plugin: type[Plugin], kind: str) -> None:
    """An exception of a plugin of any kind is raised in the test. Its traceback leads from the test to the line of the plugin."""
    with pytest.raises(BaseException, match="this is wrong" if kind == "value" else "3") as raised:
        client.get("/", plugins=[(plugin, f'"{kind}"')])

    assert raised.value is samples.Fail.kinds[kind]
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert (frames[0].name, frames[-1].name) == ("test_exceptions_are_raised", "on_request")
    assert [Path(frame.filename).name for frame in frames if frame.name == "on_request"][-1:] == ["samples.py"]


def test_failure_as_the_client_sees_it(client: Client) -> None:
    """With `raise_errors=False`, a failure is a 503, and the result contains the exception."""
    result = client.get("/", plugins=[(samples.Fail, '"value"')], raise_errors=False)

    assert result.reply == ClientResponse(503)
    assert result.stopped
    assert isinstance(result.error, ValueError)
    assert (result.effects[0].error or "").splitlines()[0] == "ValueError: this is wrong"


class FailAgain(Plugin[Any]):
    """Raise a new exception each time, because the tracebacks of those in `samples` grow."""

    def on_request(self, request: Request) -> None:
        raise ValueError("this is wrong")


class FailAgainAsync(Plugin[Any]):
    async def on_request(self, request: Request) -> None:
        raise ValueError("this is wrong")


@pytest.mark.parametrize("plugin", [FailAgain, FailAgainAsync])
def test_only_frames_of_the_plugin(client: Client, plugin: type[Plugin[Any]]) -> None:
    """The short traceback of a failure contains only the frames of the plugin, in both build modes."""
    result = client.get("/", plugins=[plugin], raise_errors=False)

    error = result.effects[0].error or ""
    assert [line.rpartition(" ")[2] for line in error.splitlines() if ", in " in line] == ["on_request"]


def test_degradation(client: Client) -> None:
    """If the route allows degradation, the request continues unchanged after a failure."""
    result = client.get("/", plugins=[(samples.Fail, '"value"')], raise_errors=False, allow_degradation=True)

    assert not result.stopped
    assert "x-edited" not in result.upstream.headers


def test_plugin_that_passes_on_error(client: Client) -> None:
    """With `on_error = "pass"`, a failure is not raised. The request continues without the edits, and the effect contains the error."""
    result = client.get("/", plugins=[(samples.FailSoftly, '"value"')])

    assert "x-edited" not in result.upstream.headers
    assert "ValueError" in (result.effects[0].error or "")


def test_settings_of_the_client() -> None:
    """The options of the client apply to each of its calls that does not have its own."""
    with Client(raise_errors=False, allow_degradation=True, on_error="pass") as client:
        assert client.get("/", plugins=[(samples.Fail, '"value"')]).error is None
        assert not client.get("/", plugins=["no-such-plugin"]).stopped
        with pytest.raises(ChainRefused, match="no-such-plugin: there is no plugin of this name"):
            client.get("/", plugins=["no-such-plugin"], raise_errors=True)


def test_deadline() -> None:
    """If a plugin waits for too long, DeadlineExceeded is raised, and its message contains the time limit."""
    with Client(plugin_timeout_s=0.01) as client, pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
        client.get("/", plugins=[samples.Wait])


@pytest.mark.parametrize(
    ("entry", "phase", "reason"),
    [
        ("key-autth", "request", "there is no plugin of this name"),
        ((KeyAuth, {"keys": 3}), "request", "keys"),
        ((KeyAuth, "not JSON"), "request", "not valid JSON"),
        (samples.Hide, "request", "it has no on_request"),
        (samples.Edit, "response", "it has no on_response"),
        ((samples.Old, {}), "response", "no response phase"),
    ],
)
def test_refusals(client: Client, entry: Any, phase: str, reason: str) -> None:
    """Plugins that can't run are refused with the same reason as in production. The client of a gateway gets 503 in both phases."""

    def call(**options: Any) -> Any:
        return client.get("/", plugins=[entry], **options) if phase == "request" else client.respond(plugins=[entry], **options)

    with pytest.raises(ChainRefused, match=reason):
        call()
    result = call(raise_errors=False)
    assert (result.reply if phase == "request" else result.response).status == 503


def test_unknown_plugin(client: Client) -> None:
    """An unknown name may be meant for a class of the test. The message explains how to give a class, and where plugins are loaded."""

    class Own(Plugin):
        def on_request(self, request: Request) -> None: ...

    with pytest.raises(ChainRefused, match=r"--apisix-plugins.*plugins=\[\(KeyAuth, \{\.\.\.\}\)\]"):
        client.get("/", plugins=[Own.configured()])


def test_reply_that_is_too_long(client: Client) -> None:
    """If a reply is too long, its error is raised, and the client of a gateway gets 503."""

    class TooLong(Plugin):
        def on_request(self, request: Request) -> Reply:
            return Reply(200, bytes(1 << 24))

    with pytest.raises(MessageTooLarge):
        client.get("/", plugins=[TooLong])
    assert client.get("/", plugins=[TooLong], raise_errors=False).reply == ClientResponse(503)


def test_failure_after_the_plugins(client: Client) -> None:
    """Errors that occur after the plugins, such as that of a reply not created by its constructor, are raised too."""

    class Unprepared(Plugin):
        def on_request(self, request: Request) -> Reply:
            return Reply.__new__(Reply)

    with pytest.raises((AttributeError, TypeError)):
        client.get("/", plugins=[Unprepared])


def test_unsupported_edit(client: Client) -> None:
    """An edit that the protocol does not support raises at the line of the plugin, as in production."""

    class Method(Plugin):
        def on_request(self, request: Request) -> None:
            request.method = "PUT"  # type: ignore[assignment]

    with pytest.raises(UnsupportedEdit, match="the protocol can't change a request's method"):
        client.get("/", plugins=[Method])


def test_body_that_does_not_fit_in_a_frame(client: Client) -> None:
    """A body of 16 MiB does not fit in a frame. It is not requested if its length is known; otherwise the gateway fails the call."""
    body = bytes(1 << 24)

    with pytest.raises(BodyError):
        client.post("/", body=body, plugins=[(samples.Show, ["body"])])
    with pytest.raises(MessageTooLarge):
        client.post("/", body=body, headers={"transfer-encoding": "chunked"}, plugins=[(samples.Show, ["body"])])
    result = client.post("/", body=body, headers={"transfer-encoding": "chunked"}, plugins=[(samples.Show, ["body"])], raise_errors=False)
    assert result.reply == ClientResponse(503)
    assert isinstance(result.error, MessageTooLarge)


@pytest.mark.parametrize("phase", ["ext-plugin-pre-req", "ext-plugin-post-req"])
def test_after_proxy_rewrite(client: Client, phase: str) -> None:
    """If the variable upstream_uri is set, the path of the call is encoded. The result contains the decoded path."""

    class Add(Plugin):
        def on_request(self, request: Request) -> None:
            request.args["x"] = "1"
            request.context["phase"] = request.phase

    result = client.get("/a%2520b", phase=phase, vars={"upstream_uri": "/a%20b"}, plugins=[Add])

    assert (result.upstream.path, result.upstream.query) == ("/a b", "x=1")
    assert result.asked == ("upstream_uri",)


@pytest.mark.parametrize("plugin", [samples.Hide, samples.HideAsync])
def test_response(client: Client, plugin: type[Plugin]) -> None:
    """In the response phase, the result has what the client gets: the new body, and all headers except those of the old body."""
    packed = gzip.compress(b'{"public": "me"}')
    result = client.respond(201, {"Content-Encoding": "gzip", "X-Up": "1"}, packed, plugins=[plugin])

    assert result.response == ClientResponse(201, CIMultiDict({"x-up": "1", "x-hidden": "yes"}), b"me")
    assert (result.stopped, result.asked) == (False, ("body",))
    headers = {"header x-hidden added", "header content-encoding removed", "header content-length removed"}
    assert set(result.effects[0].changes) == {*headers, f"body {len(packed)} B -> 2 B"}


def test_unchanged_response(client: Client) -> None:
    """A response that no plugin changes reaches the client unchanged."""

    class Look(Plugin):
        def on_response(self, response: Any) -> None:
            assert f"{response.var('request_method')} {response.var('uri')}" == "GET /users"
            assert response.var("http_x_api_key") == "k"

    result = client.respond(404, json={"a": 1}, url="/users", request_headers={"x-api-key": "k"}, plugins=[Look])

    expected = {"content-type": "application/json", "content-length": "7"}
    assert result.response == ClientResponse(404, CIMultiDict(expected), b'{"a":1}')


def test_replaced_response(client: Client) -> None:
    """A Reply replaces the whole response."""
    result = client.respond(200, {"X-Up": "1"}, b"secret", plugins=[samples.Deny])

    assert (result.response.status, result.response.text) == (403, "not for you")
    assert {name.lower() for name in result.response.headers} == {"x-why", "content-type"}
    assert result.effects[-1].stopped == 403


def test_failure_in_the_response_phase(client: Client) -> None:
    """A failure is raised. Without `raise_errors`, the client gets the upstream's body only if the plugin sets `degrade`."""
    with pytest.raises(BodyError):
        client.respond(body=b"secret", plugins=[samples.Hide])

    refused = client.respond(body=b"secret", plugins=[samples.Hide], raise_errors=False).response
    assert (refused.status, refused.body) == (503, b"503 Service Unavailable\n")

    for allow_degradation, status in ((False, 503), (True, 201)):
        result = client.respond(
            201, {"X-Up": "1"}, b"secret", plugins=[samples.HideOrDegrade], raise_errors=False, allow_degradation=allow_degradation
        )
        assert result.response == ClientResponse(status, CIMultiDict(), b"secret")


def test_one_instance_for_each_configuration(client: Client) -> None:
    """Calls with the same configuration share an instance of the plugin. Another configuration or route has its own."""

    def count(**options: Any) -> str:
        result = client.get("/", plugins=[(samples.Count, options.pop("conf", None))], **options)
        return result.reply.text

    samples.Count.events.clear()
    assert [count(), count(), count(conf={"a": 1}), count(route_key="route#2#ext-plugin-pre-req#1")] == ["1", "2", "1", "1"]
    assert samples.Count.events == ["setup"] * 3
    client.close()
    assert samples.Count.events == ["setup"] * 3 + ["close"] * 3


def test_failing_setup(client: Client) -> None:
    """An exception of `setup` is raised."""
    with pytest.raises(ConnectionError, match="no database"):
        client.get("/", plugins=[samples.NoSetup])


def test_failing_close() -> None:
    """An exception of `close` is raised when the client is closed."""
    client = Client()
    client.get("/", plugins=[samples.NoClose])

    with pytest.raises(ConnectionError, match="any more"):
        client.close()


def test_use_after_close() -> None:
    """A closed client can be used again. It creates new instances."""
    with Client() as client:
        client.get("/", plugins=[samples.Count])
        client.close()
        result = client.get("/", plugins=[samples.Count])
        assert result.reply.text == "1"


def test_directories(tmp_path: Path) -> None:
    """Plugins are loaded from directories, as in production. `plugin` returns the class of a name."""
    (tmp_path / "hello.py").write_text(
        "from apisix import Plugin, Reply\nclass Hello(Plugin):\n    def on_request(self, request):\n        return Reply(200, 'hello')\n"
    )
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with Client([tmp_path]) as client:
        result = client.get("/", plugins=["hello"])
        assert result.reply.text == "hello"
        assert client.plugin("hello").__name__ == "Hello"
        assert [client.plugin("hello").configured()] == [("hello", "{}")]  # type: ignore[attr-defined]
        with pytest.raises(ChainRefused, match=r"broken\.py:1: it imports nothing_of_this_name"):
            client.get("/", plugins=["broken"])
        with pytest.raises(LookupError, match="could not be loaded"):
            client.plugin("broken")
        with pytest.raises(LookupError, match="there is no plugin helo; did you mean hello"):
            client.plugin("helo")


def test_offered_class_replaces_a_loaded_one(client: Client) -> None:
    """A class that the test gives replaces a loaded plugin of the same name, but only for that call."""

    class Stop(Plugin):
        def on_request(self, request: Request) -> Reply:
            return Reply(299)

    assert [client.get("/", plugins=[entry]).reply.status for entry in (Stop, "stop", Stop)] == [299, 201, 299]


def test_misuse(client: Client) -> None:
    """Wrong arguments raise an error with a clear message."""
    with pytest.raises(TypeError, match="plugins"):
        client.get("/")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="header'"):
        client.get("/", plugins=[], header={})  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"ext-plugin-pre-req or ext-plugin-post-req, not 'ext-plugin-post-resp'"):
        client.get("/", plugins=[], phase="ext-plugin-post-resp")


async def test_plain_call_in_an_async_test(client: Client) -> None:
    """In an async test, the error of a plain call names the async variant."""
    with pytest.raises(RuntimeError, match=r"client\.aget"):
        client.get("/", plugins=[])


def test_clients_that_share_a_loop() -> None:
    """Clients that share an event loop, as those of the fixture do, close their plugins and cancel the tasks of the plugins."""
    began: list[asyncio.Task[None]] = []

    class Restless(Plugin):
        async def on_request(self, request: Request) -> None:
            began.append(asyncio.create_task(asyncio.sleep(3600)))

    with asyncio.Runner() as runner:
        for _ in range(2):
            with Client(_runner=runner) as client:
                client.get("/", plugins=[Restless])
            assert began[-1].cancelled()
        client = Client(_runner=runner)
        client.get("/", plugins=[samples.NoClose])
        with pytest.raises(ConnectionError, match="any more"):
            client.close()
        assert not runner.get_loop().is_closed()
