# SPDX-License-Identifier: Apache-2.0
"""The request and the response of release 0.2, without the defects of that release."""

import json
import logging
from typing import Any

import pytest

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.legacy.plugin_base_request import PluginBaseRequest
from apisix.runner.legacy.plugin_base_response import PluginBaseResponse
from apisix.runner.wire.messages import ReqBody, Var
from tests.http.calls import FakeGateway, Pairs, a_request, rewrite, sent, stop

HEADERS: Pairs = [("host", "h"), ("user-agent", "curl"), ("r", "1"), ("r", "2")]
ARGS: Pairs = [("x", "1"), ("flag", None), ("m", "1"), ("m", "2")]


class TestRequestEdits:
    """Setters of what the protocol carries."""

    def test_read_only(self) -> None:
        """Getters, and dicts that nobody changes, edit nothing."""
        request = a_request("/a", ARGS, HEADERS)
        seen = PluginBaseRequest(request)
        assert ("curl", "2", None) == (seen.get_header("User-Agent"), seen.get_header("r"), seen.get_header("nope"))
        assert ("1", "", "2", None) == (seen.get_arg("x"), seen.get_arg("flag"), seen.get_arg("m"), seen.get_arg("nope"))
        assert {"host": "h", "user-agent": "curl", "r": "2"} == seen.get_headers()
        assert {"x": "1", "flag": "", "m": "2"} == seen.get_args()
        assert "/a" == seen.get_uri()
        seen.apply()
        assert sent(request).action is None

    def test_setters(self) -> None:
        """What is set is an edit, and names of headers ignore case. An empty value changes nothing. Source: release 0.2."""
        request = a_request("/a", ARGS, HEADERS)
        seen = PluginBaseRequest(request)
        taken = [seen.set_header("Host", "other"), seen.set_header("x-b", b"bytes"), seen.set_arg("x", "2"), seen.set_uri("/b")]
        nothing: list[bool] = [
            *[seen.set_header(name, value) for name, value in [("User-Agent", None), ("User-Agent", ""), ("", "1")]],
            *[seen.set_arg("x", value) for value in (None, "")],
            seen.set_headers(None),
            seen.set_headers({}),
            seen.set_args(None),
            seen.set_args({}),
            *[seen.set_uri(value) for value in (None, "", "relative")],
        ]
        assert (set(taken), set(nothing)) == ({True}, {False})
        assert (seen.get_header("HOST"), seen.get_header("user-agent"), seen.get_uri()) == ("other", "curl", "/b")
        seen.apply()
        action = rewrite(request)
        assert list(action.headers) == [("host", "other"), ("x-b", "bytes")]
        assert (action.path, list(action.args)) == ("/b", [("x", "2")])

    def test_dicts(self) -> None:
        """A dict that was given out counts as the plugin leaves it, deletions included, together with the setters."""
        request = a_request("/a", ARGS, HEADERS)
        seen = PluginBaseRequest(request)
        headers, args = seen.get_headers(), seen.get_args()
        headers["X-New"] = "1"
        del headers["USER-AGENT"]
        seen.set_header("Host", "other")
        del headers["R"]
        args["x"] = "2"
        del args["m"]
        seen.set_arg("y", "3")
        assert {"X-New": "1", "Host": "other"} == headers
        assert {"x": "2", "flag": "", "y": "3"} == args
        assert ("1", None, "2", None) == (seen.get_header("x-new"), seen.get_header("user-agent"), seen.get_arg("x"), seen.get_arg("m"))
        seen.apply()
        action = rewrite(request)
        assert {"x-new": "1", "user-agent": None, "host": "other", "r": None} == dict(action.headers)
        assert {"x": "2", "m": None, "y": "3"} == dict(action.args)

    def test_several_at_once(self) -> None:
        """The getters show what was given, and the upstream gets the rest too. None in a dict deletes. Source: release 0.2."""
        request = a_request("/a", [("x", "1"), ("y", "2")], HEADERS)
        seen = PluginBaseRequest(request)
        assert seen.set_headers({"Host": "other", "r": None})
        assert seen.set_args({"x": "3"})
        assert (seen.get_header("host"), seen.get_header("user-agent"), seen.get_args()) == ("other", None, {"x": "3"})
        seen.get_args()["z"] = "4"
        seen.apply()
        action = rewrite(request)
        assert list(action.headers) == [("host", "other"), ("r", None)]
        assert list(action.args) == [("x", "3"), ("z", "4")]

    @pytest.mark.parametrize(
        ("setter", "args"),
        [
            ("set_header", ("a", 5)),
            ("set_header", (5, "a")),
            ("set_headers", ("a",)),
            ("set_headers", ({"a": 5},)),
            ("set_arg", ("a", 0)),
            ("set_args", ([("a", "b")],)),
            ("set_uri", (5,)),
            ("set_body", (5,)),
            ("set_id", ("5",)),
            ("set_conf_token", (True,)),
            ("set_method", (5,)),
            ("set_remote_addr", (5,)),
            ("set_var", ("a", 5)),
            ("set_config", (5, "a")),
            ("set_configs", ("a",)),
        ],
    )
    def test_values_of_other_types(self, setter: str, args: tuple[Any, ...]) -> None:
        """They raise at the line, which refuses the call. A value that is empty but of another type does too."""
        request = a_request("/a", ARGS, HEADERS)
        with pytest.raises(TypeError, match="must be a"):
            getattr(PluginBaseRequest(request), setter)(*args)
        assert sent(request).action is None

    def test_header_injection(self) -> None:
        """CR and LF fail the plugin, also where they were put into the dict."""
        with pytest.raises(ValueError, match="must not contain control characters"):
            PluginBaseRequest(a_request()).set_header("a", "b\nc")
        seen = PluginBaseRequest(a_request())
        seen.get_headers()["a"] = "b\nc"
        with pytest.raises(ValueError, match="must not contain control characters"):
            seen.apply()

    def test_edits_of_earlier_plugins(self) -> None:
        """A plugin sees what the ones before it did."""
        request = a_request("/a", ARGS, HEADERS)
        request.headers["x"] = "1"
        request.body = b"before"
        seen = PluginBaseRequest(request)
        assert ("1", "1", "before") == (seen.get_header("X"), seen.get_headers()["X"], seen.get_body())


class TestRequestBody:
    """Bodies are text that keeps every byte."""

    def test_binary(self) -> None:
        """Any bytes survive getting and setting, and what is set reaches the upstream."""
        body = bytes(range(256))
        request = a_request(gateway=FakeGateway({ReqBody(): body}))
        seen = PluginBaseRequest(request)
        text = seen.get_body()
        assert isinstance(text, str)
        assert seen.set_body(text + "ü")
        assert text + "ü" == seen.get_body()
        assert body + b"\xc3\xbc" == rewrite(request).body
        assert seen.set_body(b"\0\xff")
        assert ("\0\udcff", b"\0\xff") == (seen.get_body(), rewrite(request).body)

    def test_none(self) -> None:
        """No body is empty text."""
        assert "" == PluginBaseRequest(a_request()).get_body()

    def test_empty_body(self) -> None:
        """It changes nothing."""
        request = a_request(gateway=FakeGateway({ReqBody(): b"came"}))
        seen = PluginBaseRequest(request)
        assert [seen.set_body(value) for value in ("", b"", None)] == [False] * 3
        assert (seen.get_body(), sent(request).action) == ("came", None)

    @pytest.mark.parametrize("body", ["für".encode(), b"\x00\xff\xfe", b"plain", b""])
    def test_bytes_of_a_body(self, body: bytes) -> None:
        """Release 0.2 made a character of each byte, so plugins encode as Latin-1; others encode as UTF-8."""
        text = PluginBaseRequest(a_request(gateway=FakeGateway({ReqBody(): body}))).get_body()
        assert [text.encode("latin-1"), text.encode("ISO-8859-1"), text.encode(), text.encode("utf-8")] == [body] * 4

    def test_a_body_is_text(self) -> None:
        """`json.loads` takes it."""
        text = PluginBaseRequest(a_request(gateway=FakeGateway({ReqBody(): '{"a": "ü"}'.encode()}))).get_body()
        assert json.loads(text) == {"a": "ü"}
        with pytest.raises(UnicodeEncodeError):
            text.encode("ascii")


class TestWhatTheProtocolCannotCarry:
    """It is kept where the plugin can read it, and the log warns once."""

    @pytest.mark.parametrize(
        ("name", "came", "kept"),
        [("method", "GET", "PUT"), ("id", 7, 8), ("conf_token", 9, 1), ("remote_addr", "127.0.0.1", "10.0.0.1")],
    )
    def test_kept(self, name: str, came: object, kept: object, caplog: pytest.LogCaptureFixture) -> None:
        """The getter returns what was set, the gateway gets nothing, and one line warns, at level warning."""
        request = a_request(call_id=7, conf_token=9, src_ip=b"\x7f\0\0\1")
        seen = PluginBaseRequest(request)
        getter, setter = getattr(seen, f"get_{name}"), getattr(seen, f"set_{name}")
        assert came == getter()
        assert setter(kept)
        assert setter(kept)
        assert (kept, None, 7) == (getter(), sent(request).action, sent(request).id)
        assert [setter(None), setter(type(came)())] == [False, False]
        assert getter() == kept
        assert [logging.WARNING] == [record.levelno for record in caplog.records]
        assert f"set_{name}()" in caplog.text

    def test_variables(self, caplog: pytest.LogCaptureFixture) -> None:
        """Variables are asked for; one that is not set is ""; one that the plugin set is its own."""
        gateway = FakeGateway({Var("a"): b"1"})
        seen = PluginBaseRequest(a_request(gateway=gateway))
        assert ("1", "", "1") == (seen.get_var("a"), seen.get_var("nope"), seen.get_var("a"))
        assert seen.set_var("a", "2")
        assert "2" == seen.get_var("a")
        assert [seen.set_var("a", ""), seen.set_var("", "1")] == [False, False]
        assert "2" == seen.get_var("a")
        assert [[Var("a")], [Var("nope")]] == gateway.asked
        assert 1 == len(caplog.records)

    def test_configs(self) -> None:
        """The route's plugins and their values can be read, and changed for this call only."""
        configs = {"say": "{}", "other": "x"}
        seen = PluginBaseRequest(a_request(), configs)
        assert ("{}", None, configs) == (seen.get_config("say"), seen.get_config("nope"), seen.get_configs())
        assert seen.set_config("say", "y")
        assert ({"say": "y", "other": "x"}, {"say": "{}", "other": "x"}) == (seen.get_configs(), configs)
        assert [seen.set_config("", "y"), seen.set_configs({}), seen.set_configs({"a": "b"})] == [False, False, True]
        assert seen.get_configs() == {"a": "b"}

    def test_methods(self) -> None:
        """Seven methods are taken, in any case. Source: release 0.2."""
        seen = PluginBaseRequest(a_request())
        assert [seen.set_method(method) for method in ("put", "PATCH", "hello", "TRACE")] == [True, True, False, False]
        assert seen.get_method() == "PATCH"


class TestWhatRelease02Had:
    """Names that its plugins may use."""

    def test_is_a_request_and_a_response(self) -> None:
        """Plugins are annotated with these classes."""
        assert isinstance(PluginBaseRequest(a_request()), Request)
        assert isinstance(PluginBaseResponse(), Response)

    def test_checked(self) -> None:
        """A request with a path is."""
        assert PluginBaseRequest(a_request()).checked() is True

    def test_log(self, caplog: pytest.LogCaptureFixture) -> None:
        """Messages are formatted by `str.format`. Anything else of `r` is gone."""
        request = PluginBaseRequest(a_request())
        request.r.log.error("{} of {}", 1, 2)
        request.r.log.warn("100 %")
        assert caplog.messages == ["1 of 2", "100 %"]
        with pytest.raises(AttributeError, match="no longer has 'conn'"):
            _ = request.r.conn

    def test_addresses_of_ipv6(self) -> None:
        """They are written in full."""
        assert PluginBaseRequest(a_request(src_ip=bytes(15) + b"\1")).get_remote_addr() == "0000:0000:0000:0000:0000:0000:0000:0001"


class TestResponse:
    """Anything that is set on it is a Stop."""

    def test_nothing_set(self) -> None:
        """Reading sets nothing."""
        response = PluginBaseResponse(5)
        assert (200, "", None, {}, 5) == (
            response.get_status_code(),
            response.get_body(),
            response.get_header("a"),
            response.get_headers(),
            response.get_req_id(),
        )
        assert response.set_req_id(6)
        assert (6, False, None) == (response.get_req_id(), response.changed(), response.reply())

    def test_in_full(self) -> None:
        """Status, headers and body go to the client."""
        response = PluginBaseResponse()
        assert all(
            [response.set_status_code(403), response.set_header("X-A", "1"), response.set_header("x-b", "2"), response.set_body("no")]
        )
        assert (403, "1", "2", "no", True) == (
            response.get_status_code(),
            response.get_header("x-a"),
            response.get_header("X-B"),
            response.get_body(),
            response.changed(),
        )
        reply = response.reply()
        assert reply is not None
        action = stop(a_request(), reply)
        expected = (403, [("X-A", "1"), ("x-b", "2"), ("content-type", "text/plain; charset=utf-8")], b"no")
        assert expected == (action.status, list(action.headers), action.body)

    @pytest.mark.parametrize(
        ("setter", "args"),
        [
            ("set_status_code", (200,)),
            ("set_body", ("x",)),
            ("set_body", (b"x",)),
            ("set_header", ("a", "1")),
            ("set_headers", ({"a": ""},)),
        ],
    )
    def test_each_alone_counts(self, setter: str, args: tuple[Any, ...]) -> None:
        """Setting one thing is enough, and nothing takes it back."""
        response = PluginBaseResponse()
        assert getattr(response, setter)(*args)
        assert getattr(response, setter)(*args[:-1], None) is False
        reply = response.reply()
        assert reply is not None
        assert (response.changed(), reply.status) == (True, 200)

    @pytest.mark.parametrize(
        ("setter", "args"),
        [
            ("set_status_code", (0,)),
            ("set_status_code", (99,)),
            ("set_status_code", (700,)),
            ("set_body", ("",)),
            ("set_body", (b"",)),
            ("set_header", ("a", "")),
            ("set_header", ("", "a")),
            ("set_headers", ({},)),
            ("set_req_id", (0,)),
        ],
    )
    def test_empty_values_change_nothing(self, setter: str, args: tuple[Any, ...]) -> None:
        """The setter returns False. Source: release 0.2."""
        response = PluginBaseResponse(5)
        assert getattr(response, setter)(*args) is False
        assert (response.changed(), response.reply(), response.get_req_id()) == (False, None, 5)

    def test_a_status_out_of_range_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """Once, since a plugin that relies on it lets requests go on."""
        response = PluginBaseResponse(1, "guard")
        assert [response.set_status_code(status) for status in (0, 700, 700)] == [False] * 3
        assert caplog.messages == ["plugin guard called set_status_code(700), which has no effect: a status is between 100 and 599"]

    def test_dict(self) -> None:
        """The dict of headers counts as the plugin leaves it."""
        response = PluginBaseResponse()
        response.get_headers()["X-A"] = "1"
        reply = response.reply()
        assert reply is not None
        assert [("X-A", "1")] == list(reply.headers.items())

    def test_binary_body(self) -> None:
        """Bytes, and text that stands for them, reach the client as they are."""
        for body in (b"\0\xff", "\0\udcff"):
            response = PluginBaseResponse()
            assert response.set_body(body)
            reply = response.reply()
            assert reply is not None
            assert (b"\0\xff", "\0\udcff") == (reply.body, response.get_body())

    @pytest.mark.parametrize(
        ("setter", "args"),
        [
            ("set_status_code", ("200",)),
            ("set_status_code", (True,)),
            ("set_body", (5,)),
            ("set_header", ("a", 5)),
            ("set_headers", (["a"],)),
        ],
    )
    def test_values_of_other_types(self, setter: str, args: tuple[Any, ...]) -> None:
        """They raise at the line, which refuses the call."""
        response = PluginBaseResponse()
        with pytest.raises(TypeError, match="must be a"):
            getattr(response, setter)(*args)
        assert not response.changed()
