# SPDX-License-Identifier: Apache-2.0
"""The request and the response that a `PluginBase` gets, without the defects of release 0.2."""

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
    """Setters of values that the protocol can change."""

    def test_read_only(self) -> None:
        """Getters, and dicts that are not changed, edit nothing."""
        request = a_request("/a", ARGS, HEADERS)
        seen = PluginBaseRequest(request)
        assert (seen.get_header("User-Agent"), seen.get_header("r"), seen.get_header("nope")) == ("curl", "2", None)
        assert (seen.get_arg("x"), seen.get_arg("flag"), seen.get_arg("m"), seen.get_arg("nope")) == ("1", "", "2", None)
        assert seen.get_headers() == {"host": "h", "user-agent": "curl", "r": "2"}
        assert seen.get_args() == {"x": "1", "flag": "", "m": "2"}
        assert seen.get_uri() == "/a"
        seen.apply()
        assert sent(request).action is None

    def test_setters(self) -> None:
        """Setters edit the request. They ignore the case of header names and empty values. Source: release 0.2."""
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
        """Changes of a dict that the plugin got, deletions too, become edits together with those of the setters."""
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
        assert headers == {"X-New": "1", "Host": "other"}
        assert args == {"x": "2", "flag": "", "y": "3"}
        assert (seen.get_header("x-new"), seen.get_header("user-agent"), seen.get_arg("x"), seen.get_arg("m")) == ("1", None, "2", None)
        seen.apply()
        action = rewrite(request)
        assert dict(action.headers) == {"x-new": "1", "user-agent": None, "host": "other", "r": None}
        assert dict(action.args) == {"x": "2", "m": None, "y": "3"}

    def test_several_at_once(self) -> None:
        """The getters return only the new values, but the upstream gets the others too. None deletes. Source: release 0.2."""
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
        """The setter raises an error, also if the value is empty."""
        request = a_request("/a", ARGS, HEADERS)
        with pytest.raises(TypeError, match="must be a"):
            getattr(PluginBaseRequest(request), setter)(*args)
        assert sent(request).action is None

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (5, r"^the value of 'a' must be a str, got int, write str\(5\)$"),
            (1.5, r"^the value of 'a' must be a str, got float, write str\(1\.5\)$"),
            (["b"], "^the value of 'a' must be a str, got list$"),
        ],
    )
    def test_for_a_number_the_error_shows_how_to_write_it(self, value: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            PluginBaseRequest(a_request()).set_header("a", value)

    def test_header_injection(self) -> None:
        """CR and LF raise an error, also if they are in the dict."""
        with pytest.raises(ValueError, match="must not contain control characters"):
            PluginBaseRequest(a_request()).set_header("a", "b\nc")
        seen = PluginBaseRequest(a_request())
        seen.get_headers()["a"] = "b\nc"
        with pytest.raises(ValueError, match="must not contain control characters"):
            seen.apply()

    def test_edits_of_earlier_plugins(self) -> None:
        """A plugin gets the edits of earlier plugins."""
        request = a_request("/a", ARGS, HEADERS)
        request.headers["x"] = "1"
        request.body = b"before"
        seen = PluginBaseRequest(request)
        assert (seen.get_header("X"), seen.get_headers()["X"], seen.get_body()) == ("1", "1", "before")


class TestRequestBody:
    """Bodies are text from which every byte can be restored."""

    def test_binary(self) -> None:
        """Getting and setting a body does not change its bytes. The upstream gets the body that was set."""
        body = bytes(range(256))
        request = a_request(gateway=FakeGateway({ReqBody(): body}))
        seen = PluginBaseRequest(request)
        text = seen.get_body()
        assert isinstance(text, str)
        assert seen.set_body(text + "ü")
        assert seen.get_body() == text + "ü"
        assert rewrite(request).body == body + b"\xc3\xbc"
        assert seen.set_body(b"\0\xff")
        assert (seen.get_body(), rewrite(request).body) == ("\0\udcff", b"\0\xff")

    def test_none(self) -> None:
        """A missing body is empty text."""
        assert PluginBaseRequest(a_request()).get_body() == ""

    def test_empty_body(self) -> None:
        """Setting an empty body changes nothing."""
        request = a_request(gateway=FakeGateway({ReqBody(): b"came"}))
        seen = PluginBaseRequest(request)
        assert [seen.set_body(value) for value in ("", b"", None)] == [False] * 3
        assert (seen.get_body(), sent(request).action) == ("came", None)

    @pytest.mark.parametrize("body", ["für".encode(), b"\x00\xff\xfe", b"plain", b""])
    def test_bytes_of_a_body(self, body: bytes) -> None:
        """Release 0.2 decoded bodies as Latin-1, so its plugins encode them as Latin-1. Others encode them as UTF-8."""
        text = PluginBaseRequest(a_request(gateway=FakeGateway({ReqBody(): body}))).get_body()
        assert [text.encode("latin-1"), text.encode("ISO-8859-1"), text.encode(), text.encode("utf-8")] == [body] * 4

    def test_a_body_is_text(self) -> None:
        """`json.loads` accepts it."""
        text = PluginBaseRequest(a_request(gateway=FakeGateway({ReqBody(): '{"a": "ü"}'.encode()}))).get_body()
        assert json.loads(text) == {"a": "ü"}
        with pytest.raises(UnicodeEncodeError):
            text.encode("ascii")


class TestValuesThatTheProtocolCannotChange:
    """They are kept for the getter, and a warning is logged once."""

    @pytest.mark.parametrize(
        ("name", "received", "kept"),
        [("method", "GET", "PUT"), ("id", 7, 8), ("conf_token", 9, 1), ("remote_addr", "127.0.0.1", "10.0.0.1")],
    )
    def test_kept(self, name: str, received: object, kept: object, caplog: pytest.LogCaptureFixture) -> None:
        """The getter returns the new value, the gateway gets no edit, and one warning is logged."""
        request = a_request(call_id=7, conf_token=9, src_ip=b"\x7f\0\0\1")
        seen = PluginBaseRequest(request)
        getter, setter = getattr(seen, f"get_{name}"), getattr(seen, f"set_{name}")
        assert getter() == received
        assert setter(kept)
        assert setter(kept)
        assert (getter(), sent(request).action, sent(request).id) == (kept, None, 7)
        assert [setter(None), setter(type(received)())] == [False, False]
        assert getter() == kept
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert f"set_{name}()" in caplog.text

    def test_variables(self, caplog: pytest.LogCaptureFixture) -> None:
        """Variables are fetched from the gateway. One that is not set is "". One that the plugin set has the plugin's value."""
        gateway = FakeGateway({Var("a"): b"1"})
        seen = PluginBaseRequest(a_request(gateway=gateway))
        assert (seen.get_var("a"), seen.get_var("nope"), seen.get_var("a")) == ("1", "", "1")
        assert seen.set_var("a", "2")
        assert seen.get_var("a") == "2"
        assert [seen.set_var("a", ""), seen.set_var("", "1")] == [False, False]
        assert seen.get_var("a") == "2"
        assert gateway.asked == [[Var("a")], [Var("nope")]]
        assert len(caplog.records) == 1

    def test_configs(self) -> None:
        """The plugins of the route and their values can be read. Changes apply only to this call."""
        configs = {"say": "{}", "other": "x"}
        seen = PluginBaseRequest(a_request(), configs)
        assert (seen.get_config("say"), seen.get_config("nope"), seen.get_configs()) == ("{}", None, configs)
        assert seen.set_config("say", "y")
        assert (seen.get_configs(), configs) == ({"say": "y", "other": "x"}, {"say": "{}", "other": "x"})
        assert [seen.set_config("", "y"), seen.set_configs({}), seen.set_configs({"a": "b"})] == [False, False, True]
        assert seen.get_configs() == {"a": "b"}

    def test_methods(self) -> None:
        """Seven methods are accepted, in upper or lower case. Source: release 0.2."""
        seen = PluginBaseRequest(a_request())
        assert [seen.set_method(method) for method in ("put", "PATCH", "hello", "TRACE")] == [True, True, False, False]
        assert seen.get_method() == "PATCH"


class TestNamesOfRelease02:
    """Names that its plugins may use."""

    def test_is_a_request_and_a_response(self) -> None:
        """Plugins are annotated with these classes."""
        assert isinstance(PluginBaseRequest(a_request()), Request)
        assert isinstance(PluginBaseResponse(), Response)

    @pytest.mark.parametrize("cls", [Request, Response])
    @pytest.mark.parametrize("args", [(), (object(),), (0, b"")], ids=["none", "release 0.2", "release 0.1"])
    def test_constructors(self, cls: Any, args: tuple[object, ...]) -> None:
        """In releases 0.1 and 0.2, tests of plugins could create these classes. The error says which classes replace them."""
        with pytest.raises(
            TypeError, match=rf"import {cls.__name__} from apisix.testing.release_02 .for PluginBase. or apisix.testing.release_01"
        ):
            cls(*args)

    def test_checked(self) -> None:
        """It returns True if the request has a path."""
        assert PluginBaseRequest(a_request()).checked() is True

    def test_log(self, caplog: pytest.LogCaptureFixture) -> None:
        """Messages are formatted by `str.format`. `r` has no other attributes."""
        request = PluginBaseRequest(a_request())
        request.r.log.error("{} of {}", 1, 2)
        request.r.log.warn("100 %")
        assert caplog.messages == ["1 of 2", "100 %"]
        with pytest.raises(AttributeError, match="no longer has 'conn'"):
            _ = request.r.conn

    def test_addresses_of_ipv6(self) -> None:
        """They are returned in full."""
        assert PluginBaseRequest(a_request(src_ip=bytes(15) + b"\1")).get_remote_addr() == "0000:0000:0000:0000:0000:0000:0000:0001"


class TestResponse:
    """If anything is set on it, the call ends with a Stop."""

    def test_nothing_set(self) -> None:
        """Getters set nothing."""
        response = PluginBaseResponse(5)
        assert (
            response.get_status_code(),
            response.get_body(),
            response.get_header("a"),
            response.get_headers(),
            response.get_req_id(),
        ) == (200, "", None, {}, 5)
        assert response.set_req_id(6)
        assert (response.get_req_id(), response.changed(), response.reply()) == (6, False, None)

    def test_all_values(self) -> None:
        """Status, headers and body are sent to the client."""
        response = PluginBaseResponse()
        assert all(
            [response.set_status_code(403), response.set_header("X-A", "1"), response.set_header("x-b", "2"), response.set_body("no")]
        )
        assert (
            response.get_status_code(),
            response.get_header("x-a"),
            response.get_header("X-B"),
            response.get_body(),
            response.changed(),
        ) == (403, "1", "2", "no", True)
        reply = response.reply()
        assert reply is not None
        action = stop(a_request(), reply)
        expected = (403, [("X-A", "1"), ("x-b", "2"), ("content-type", "text/plain; charset=utf-8")], b"no")
        assert (action.status, list(action.headers), action.body) == expected

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
    def test_each_value_alone(self, setter: str, args: tuple[Any, ...]) -> None:
        """Setting one value is enough, and None does not undo it."""
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
        """It is logged once, because the plugin may rely on it to stop requests."""
        response = PluginBaseResponse(1, "guard")
        assert [response.set_status_code(status) for status in (0, 700, 700)] == [False] * 3
        assert caplog.messages == ["plugin guard called set_status_code(700), which has no effect: a status is between 100 and 599"]

    def test_dict(self) -> None:
        """Changes of the dict of headers are sent."""
        response = PluginBaseResponse()
        response.get_headers()["X-A"] = "1"
        reply = response.reply()
        assert reply is not None
        assert list(reply.headers.items()) == [("X-A", "1")]

    def test_binary_body(self) -> None:
        """Bytes, and text that represents bytes, are sent to the client unchanged."""
        for body in (b"\0\xff", "\0\udcff"):
            response = PluginBaseResponse()
            assert response.set_body(body)
            reply = response.reply()
            assert reply is not None
            assert (reply.body, response.get_body()) == (b"\0\xff", "\0\udcff")

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
        """The setter raises an error."""
        response = PluginBaseResponse()
        with pytest.raises(TypeError, match="must be a"):
            getattr(response, setter)(*args)
        assert not response.changed()
