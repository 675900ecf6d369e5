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
    """A request that a plugin stops has a reply, and does not reach the upstream."""
    result = client.get("/users?flag", headers={"x-api-key": "nope"}, plugins=[(KeyAuth, {"keys": ["alpha"]})])

    assert 401 == result.reply.status
    assert {"error": "unknown key"} == result.reply.json()
    assert "application/json" == result.reply.headers["Content-Type"]
    assert result.stopped


def test_upstream(client: Client) -> None:
    """A request that goes on has no reply, and shows what the upstream gets."""
    result = client.post(
        "/users?flag", body=b"...", vars={"consumer_name": "jack"}, plugins=[(KeyAuth, {"keys": ["alpha"]})], headers={"X-Api-Key": "alpha"}
    )

    assert not result.stopped
    assert "yes" == result.upstream.headers["X-Authenticated"]
    assert ("POST", "/users", "flag", b"...") == (result.upstream.method, result.upstream.path, result.upstream.query, result.upstream.body)
    assert MultiDict(flag="") == result.upstream.args


def test_all_edits(client: Client) -> None:
    """The upstream's request has all edits, and what was set on the client's response stands beside it."""
    result = client.put("/old?a=1&b=2&c=3", headers={"x-old": "1"}, body="body", plugins=[samples.Edit])

    upstream = result.upstream
    assert ("/new path", "a=changed&a=again&c=3", b"<body>") == (upstream.path, upstream.query, upstream.body)
    assert CIMultiDict({"host": "127.0.0.1", "content-length": "6", "x-new": "1"}) == upstream.headers
    assert "<body>" == upstream.text
    assert CIMultiDict({"x-seen": "yes"}) == result.client_headers
    assert ("body",) == result.asked


def test_chain_of_three_generations(client: Client) -> None:
    """Plugins of all generations run in one chain, in order."""
    result = client.get(
        "/", headers={"x-api-key": "k"}, plugins=[(samples.Old, {"tag": "first"}), (samples.Older, "raw"), (KeyAuth, {"keys": ["k"]})]
    )

    headers = result.upstream.headers
    assert ("first", "raw", "yes") == (headers["x-old"], headers["x-older"], headers["x-authenticated"])
    assert ["old", "older", "key-auth"] == [effect.plugin for effect in result.effects]
    assert ("header x-older added",) == result.effects[1].changes


@pytest.mark.parametrize("plugin", [samples.Tell, samples.TellAsync, samples.TellBlocking])
def test_questions(client: Client, plugin: type[Plugin]) -> None:
    """Plugins of each kind get what they ask for; what the test did not give does not exist; and the result tells what was asked."""
    asked = ["consumer_name", "body", "unknown", "consumer_name"]
    result = client.post("/", body="hello", vars={"consumer_name": "jack"}, plugins=[(plugin, asked)])

    assert ["jack", "hello", None, "jack"] == result.reply.json()
    assert ("consumer_name", "body", "unknown") == result.asked
    assert ("blocking-plugin" if plugin is samples.TellBlocking else None) == result.reply.headers.get("x-thread")


def test_needs(client: Client) -> None:
    """What a class needs is asked for before its hook, back to back."""
    result = client.post("/", body="hello", vars={"consumer_name": "jack"}, plugins=[samples.Needs])

    assert "hello jack" == result.reply.text
    assert ("body", "consumer_name") == result.asked


@pytest.mark.parametrize("plugin", [samples.Fail, samples.FailAsync, samples.FailBlocking])
@pytest.mark.parametrize("kind", ["value", "exit"])
def test_exceptions_come_through(client: Client, plugin: type[Plugin], kind: str) -> None:
    """What a plugin of any kind raises is raised in the test, with a traceback that leads from the test to the plugin's line."""
    with pytest.raises(BaseException, match="this is wrong" if kind == "value" else "3") as raised:
        client.get("/", plugins=[(plugin, f'"{kind}"')])

    assert samples.Fail.kinds[kind] is raised.value
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert ("test_exceptions_come_through", "on_request") == (frames[0].name, frames[-1].name)
    assert ["samples.py"] == [Path(frame.filename).name for frame in frames if frame.name == "on_request"][-1:]


def test_gateways_view_of_an_exception(client: Client) -> None:
    """Where the test asks for the gateway's view, a failure is a 503, and the result holds what was raised."""
    result = client.get("/", plugins=[(samples.Fail, '"value"')], raise_errors=False)

    assert ClientResponse(503) == result.reply
    assert result.stopped
    assert isinstance(result.error, ValueError)
    assert "ValueError: this is wrong" == (result.effects[0].error or "").splitlines()[0]


class FailAgain(Plugin[Any]):
    """Raise another exception each time. Those of `samples` are shared, and their tracebacks grow."""

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
    """Where the route allows degradation, the request goes on as it came."""
    result = client.get("/", plugins=[(samples.Fail, '"value"')], raise_errors=False, allow_degradation=True)

    assert not result.stopped
    assert "x-edited" not in result.upstream.headers


def test_plugin_that_passes_on_error(client: Client) -> None:
    """A failure that the class declares harmless is not raised: the request goes on without the edits, and the effect tells."""
    result = client.get("/", plugins=[(samples.FailSoftly, '"value"')])

    assert "x-edited" not in result.upstream.headers
    assert "ValueError" in (result.effects[0].error or "")


def test_settings_of_the_client() -> None:
    """What is said for the client holds for each of its calls that says nothing else."""
    with Client(raise_errors=False, allow_degradation=True, on_error="pass") as client:
        assert None is client.get("/", plugins=[(samples.Fail, '"value"')]).error
        assert not client.get("/", plugins=["no-such-plugin"]).stopped
        with pytest.raises(ChainRefused, match="no-such-plugin: there is no plugin of this name"):
            client.get("/", plugins=["no-such-plugin"], raise_errors=True)


def test_deadline() -> None:
    """A plugin that waits too long ends with DeadlineExceeded, which says how long that is."""
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
    """Plugins that can't run are refused with production's reason; the gateway's view is a 503 in both phases."""

    def call(**options: Any) -> Any:
        return client.get("/", plugins=[entry], **options) if phase == "request" else client.respond(plugins=[entry], **options)

    with pytest.raises(ChainRefused, match=reason):
        call()
    result = call(raise_errors=False)
    assert (result.reply if phase == "request" else result.response).status == 503


def test_unknown_plugin_is_helped(client: Client) -> None:
    """A name that is not known may belong to a class of the test's own: the text says how to give that, and where plugins come from."""

    class Own(Plugin):
        def on_request(self, request: Request) -> None: ...

    with pytest.raises(ChainRefused, match=r"--apisix-plugins DIR.*plugins=\[\(KeyAuth, \{\.\.\.\}\)\]"):
        client.get("/", plugins=[Own.configured()])


def test_nothing_escapes_a_reply_that_cannot_be_sent(client: Client) -> None:
    """A reply that is too long comes through as the error that it is, and is a 503 for the gateway."""

    class TooLong(Plugin):
        def on_request(self, request: Request) -> Reply:
            return Reply(200, bytes(1 << 24))

    with pytest.raises(MessageTooLarge):
        client.get("/", plugins=[TooLong])
    assert ClientResponse(503) == client.get("/", plugins=[TooLong], raise_errors=False).reply


def test_failure_of_the_runner_itself(client: Client) -> None:
    """What goes wrong after the plugins, such as a reply that was not made by its constructor, comes through too."""

    class Unprepared(Plugin):
        def on_request(self, request: Request) -> Reply:
            return Reply.__new__(Reply)

    with pytest.raises((AttributeError, TypeError)):
        client.get("/", plugins=[Unprepared])


def test_unsupported_edit(client: Client) -> None:
    """What the protocol can't do raises at the plugin's line, as in production."""

    class Method(Plugin):
        def on_request(self, request: Request) -> None:
            request.method = "PUT"  # type: ignore[assignment]

    with pytest.raises(UnsupportedEdit, match="the protocol can't change a request's method"):
        client.get("/", plugins=[Method])


def test_body_that_cannot_cross(client: Client) -> None:
    """A body of 16 MiB does not fit a frame: by its length it is not even asked for, and without one the gateway fails the call."""
    body = bytes(1 << 24)

    with pytest.raises(BodyError):
        client.post("/", body=body, plugins=[(samples.Tell, ["body"])])
    with pytest.raises(MessageTooLarge):
        client.post("/", body=body, headers={"transfer-encoding": "chunked"}, plugins=[(samples.Tell, ["body"])])
    result = client.post("/", body=body, headers={"transfer-encoding": "chunked"}, plugins=[(samples.Tell, ["body"])], raise_errors=False)
    assert ClientResponse(503) == result.reply
    assert isinstance(result.error, MessageTooLarge)


@pytest.mark.parametrize("phase", ["ext-plugin-pre-req", "ext-plugin-post-req"])
def test_after_proxy_rewrite(client: Client, phase: str) -> None:
    """The variable upstream_uri says that the path came encoded; what is shown is decoded."""

    class Add(Plugin):
        def on_request(self, request: Request) -> None:
            request.args["x"] = "1"
            request.context["phase"] = request.phase

    result = client.get("/a%2520b", phase=phase, vars={"upstream_uri": "/a%20b"}, plugins=[Add])

    assert ("/a b", "x=1") == (result.upstream.path, result.upstream.query)
    assert ("upstream_uri",) == result.asked


@pytest.mark.parametrize("plugin", [samples.Hide, samples.HideAsync])
def test_response(client: Client, plugin: type[Plugin]) -> None:
    """In the response phase the result has what the client gets: the new body and all headers, less those of the old body."""
    packed = gzip.compress(b'{"public": "me"}')
    result = client.respond(201, {"Content-Encoding": "gzip", "X-Up": "1"}, packed, plugins=[plugin])

    assert ClientResponse(201, CIMultiDict({"x-up": "1", "x-hidden": "yes"}), b"me") == result.response
    assert (result.stopped, result.asked) == (False, ("body",))
    headers = {"header x-hidden added", "header content-encoding removed", "header content-length removed"}
    assert {*headers, f"body {len(packed)} B -> 2 B"} == set(result.effects[0].changes)


def test_response_that_is_left_alone(client: Client) -> None:
    """A response that no plugin changes reaches the client as it came."""

    class Look(Plugin):
        def on_response(self, response: Any) -> None:
            assert "GET /users" == f"{response.var('request_method')} {response.var('uri')}"
            assert "k" == response.var("http_x_api_key")

    result = client.respond(404, json={"a": 1}, url="/users", request_headers={"x-api-key": "k"}, plugins=[Look])

    expected = {"content-type": "application/json", "content-length": "7"}
    assert ClientResponse(404, CIMultiDict(expected), b'{"a":1}') == result.response


def test_replaced_response(client: Client) -> None:
    """A Reply takes the place of the whole response."""
    result = client.respond(200, {"X-Up": "1"}, b"secret", plugins=[samples.Deny])

    assert (403, "not for you") == (result.response.status, result.response.text)
    assert {"x-why", "content-type"} == {name.lower() for name in result.response.headers}
    assert 403 == result.effects[-1].stopped


def test_failure_in_the_response_phase(client: Client) -> None:
    """A failure comes through; in the gateway's view the upstream's body does not, unless the plugin says `degrade`."""
    with pytest.raises(BodyError):
        client.respond(body=b"secret", plugins=[samples.Hide])

    refused = client.respond(body=b"secret", plugins=[samples.Hide], raise_errors=False).response
    assert (503, b"503 Service Unavailable\n") == (refused.status, refused.body)

    for allow_degradation, status in ((False, 503), (True, 201)):
        result = client.respond(
            201, {"X-Up": "1"}, b"secret", plugins=[samples.HideOrDegrade], raise_errors=False, allow_degradation=allow_degradation
        )
        assert ClientResponse(status, CIMultiDict(), b"secret") == result.response


def test_one_instance_a_configuration(client: Client) -> None:
    """Calls with the same configuration share an instance of the plugin; another configuration, or another route, has its own."""

    def count(**options: Any) -> str:
        result = client.get("/", plugins=[(samples.Count, options.pop("conf", None))], **options)
        return result.reply.text

    samples.Count.events.clear()
    assert ["1", "2", "1", "1"] == [count(), count(), count(conf={"a": 1}), count(route_key="route#2#ext-plugin-pre-req#1")]
    assert ["setup"] * 3 == samples.Count.events
    client.close()
    assert ["setup"] * 3 + ["close"] * 3 == samples.Count.events


def test_setup_that_fails(client: Client) -> None:
    """What `setup` raises comes through."""
    with pytest.raises(ConnectionError, match="no database"):
        client.get("/", plugins=[samples.NoSetup])


def test_close_that_fails() -> None:
    """What `close` raises comes through when the client is closed."""
    client = Client()
    client.get("/", plugins=[samples.NoClose])

    with pytest.raises(ConnectionError, match="any more"):
        client.close()


def test_use_after_close() -> None:
    """A client that was closed begins anew, with new instances."""
    with Client() as client:
        client.get("/", plugins=[samples.Count])
        client.close()
        result = client.get("/", plugins=[samples.Count])
        assert "1" == result.reply.text


def test_directories(tmp_path: Path) -> None:
    """Plugins come from directories, as in production; their classes can be had by the routes' name for them."""
    (tmp_path / "hello.py").write_text(
        "from apisix import Plugin, Reply\nclass Hello(Plugin):\n    def on_request(self, request):\n        return Reply(200, 'hello')\n"
    )
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with Client([tmp_path]) as client:
        result = client.get("/", plugins=["hello"])
        assert "hello" == result.reply.text
        assert "Hello" == client.plugin("hello").__name__
        assert [("hello", "{}")] == [client.plugin("hello").configured()]  # type: ignore[attr-defined]
        with pytest.raises(ChainRefused, match=r"broken\.py:1: it imports nothing_of_this_name"):
            client.get("/", plugins=["broken"])
        with pytest.raises(LookupError, match="could not be loaded"):
            client.plugin("broken")
        with pytest.raises(LookupError, match="there is no plugin helo; did you mean hello"):
            client.plugin("helo")


def test_offered_class_prevails(client: Client) -> None:
    """A class that the test offers takes the place of a loaded plugin of the same name, for that call only."""

    class Stop(Plugin):
        def on_request(self, request: Request) -> Reply:
            return Reply(299)

    assert [client.get("/", plugins=[entry]).reply.status for entry in (Stop, "stop", Stop)] == [299, 201, 299]


def test_misuse(client: Client) -> None:
    """What can only be a mistake in the test is told as one."""
    with pytest.raises(TypeError, match="plugins"):
        client.get("/")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="header'"):
        client.get("/", plugins=[], header={})  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"ext-plugin-pre-req or ext-plugin-post-req, got 'ext-plugin-post-resp'"):
        client.get("/", plugins=[], phase="ext-plugin-post-resp")


async def test_plain_call_in_an_async_test(client: Client) -> None:
    """In an async test a plain call says which one to write."""
    with pytest.raises(RuntimeError, match=r"client\.aget"):
        client.get("/", plugins=[])


def test_a_shared_loop_is_left_clean() -> None:
    """Clients that share a loop, as those of the fixture do, close their plugins, and nothing that these began goes on."""
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
