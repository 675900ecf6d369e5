# SPDX-License-Identifier: Apache-2.0
"""Plugins of the article of 2021 find what they were written for, and what they do becomes edits or a reply."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from apisix.runner.http.request import Request
from apisix.runner.legacy.base_adapter import BaseRequest, BaseResponse
from tests.http.calls import Pairs, a_request, rewrite, sent, stop

HEADERS: Pairs = [("host", "h"), ("user-agent", "curl"), ("content-length", "3"), ("r", "1"), ("r", "2")]
ARGS: Pairs = [("x", "1"), ("flag", None)]

Filter = Callable[[Any, Any], None]


def rewritten(request: Request, plugin: Filter) -> Request:
    """Run a filter that lets the request go on."""
    seen, response = BaseRequest(request), BaseResponse()
    plugin(seen, response)
    response.rewrite(request, seen, "plugin")
    return request


def test_the_stop_sample() -> None:
    """The article's stop sample, verbatim: the request's headers are echoed beside the new one, but for the framing."""

    def filter(request: Any, response: Any) -> None:
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers
        response.body = "Hello, Python Runner of APISIX"
        response.status_code = 201

    request, response = a_request("/get", ARGS, HEADERS), BaseResponse()
    filter(BaseRequest(request), response)
    action = stop(request, response.reply())
    assert (201, b"Hello, Python Runner of APISIX") == (action.status, action.body)
    headers = list(action.headers)
    assert [("host", "h"), ("user-agent", "curl"), ("r", "2"), ("X-Resp-A6-Runner", "Python")] == headers[:4]
    assert [("content-type", "text/plain; charset=utf-8")] == headers[4:]


def test_the_rewrite_sample() -> None:
    """The article's rewrite sample: one header and one argument are set, and nothing else is sent."""

    def filter(request: Any, response: Any) -> None:
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers
        args = request.args
        args["a6_runner"] = "Python"
        response.args = args
        response.path = request.path

    action = rewrite(rewritten(a_request("/get", ARGS, HEADERS), filter))
    assert [("x-resp-a6-runner", "Python")] == list(action.headers)
    assert (None, [("a6_runner", "Python")], b"") == (action.path, list(action.args), action.body)


class TestRewrite:
    """What the response object says while the request goes on."""

    def test_path(self) -> None:
        """A path is set where it is another."""

        def filter(request: Any, response: Any) -> None:
            response.path = "/a6/python/runner"

        assert "/a6/python/runner" == rewrite(rewritten(a_request("/get"), filter)).path

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_nothing(self, nothing: str | None) -> None:
        """A filter that does nothing, or sets nothing, edits nothing."""

        def filter(request: Any, response: Any) -> None:
            response.path = nothing
            response.headers = response.args = None if nothing is None else {}

        assert sent(rewritten(a_request("/get", ARGS, HEADERS), filter)).action is None
        assert sent(rewritten(a_request("/get", ARGS, HEADERS), lambda request, response: None)).action is None

    def test_the_request_alone(self) -> None:
        """Changing the request's dict, or its attributes, is no edit."""

        def filter(request: Any, response: Any) -> None:
            request.headers["X"] = "1"
            request.headers.pop("host")
            request.args["y"] = "1"
            request.path = "/other"

        assert sent(rewritten(a_request("/get", ARGS, HEADERS), filter)).action is None

    def test_in_place(self) -> None:
        """Dicts of the response can be filled without being assigned."""

        def filter(request: Any, response: Any) -> None:
            response.headers["X-A"] = "1"
            response.headers["x-a"] += "2"
            response.args["a"] = "1"

        action = rewrite(rewritten(a_request(), filter))
        assert ([("x-a", "12")], [("a", "1")]) == (list(action.headers), list(action.args))

    def test_none_deletes_and_missing_stays(self) -> None:
        """None deletes, in any spelling; a name that is missing is left alone; an empty value counts."""

        def filter(request: Any, response: Any) -> None:
            response.headers = {"User-Agent": None, "HOST": "h", "R": "2", "nope": None, "e": ""}
            response.args = {"flag": None, "x": ""}

        action = rewrite(rewritten(a_request("/get", ARGS, HEADERS), filter))
        assert ([("user-agent", None)], [("flag", None), ("x", "")]) == (list(action.headers), list(action.args))

    def test_repeats_that_were_not_touched(self) -> None:
        """A header that came twice is one entry, the last; sent back as it was, it is no edit."""

        def filter(request: Any, response: Any) -> None:
            assert "2" == request.headers["R"]
            response.headers = request.headers
            response.args = request.args

        assert sent(rewritten(a_request("/", [("a", "1"), ("a", "2")], HEADERS), filter)).action is None

    def test_values_of_other_types(self) -> None:
        """A value that is no text fails the plugin, and the error says which."""

        def filter(request: Any, response: Any) -> None:
            response.headers["x"] = 5

        with pytest.raises(TypeError, match="the value of header 'x' must be a str, got int"):
            rewritten(a_request(), filter)

    def test_edits_of_earlier_plugins(self) -> None:
        """A plugin sees what the ones before it did, and adds to it."""
        request = a_request("/get", ARGS, HEADERS)
        request.headers["x-before"] = "1"
        del request.headers["r"]
        request.args["y"] = "2"
        request.path = "/before"

        def filter(request: Any, response: Any) -> None:
            assert ("1", False, "2", "/before") == (request.headers["X-Before"], "r" in request.headers, request.args["y"], request.path)
            response.headers["x-after"] = request.headers["x-before"]

        action = rewrite(rewritten(request, filter))
        assert [("x-before", "1"), ("r", None), ("x-after", "1")] == list(action.headers)
        assert ("/before", [("y", "2")]) == (action.path, list(action.args))


class TestReply:
    """What the response object says when the plugin stops the chain."""

    @pytest.mark.parametrize("unset", [None, 0])
    def test_defaults(self, unset: int | None) -> None:
        """Without a status it is 200, without a body an empty one."""
        response = BaseResponse()
        response.status_code = unset
        assert (200, b"", []) == (response.reply().status, response.reply().body, list(response.reply().headers.items()))
        response.body = None
        assert b"" == response.reply().body

    def test_body(self) -> None:
        """A body is text or bytes."""
        response = BaseResponse()
        response.body = b"\xff"
        assert b"\xff" == response.reply().body
        response.body = "\udcff"
        assert b"\xff" == response.reply().body

    def test_headers_of_none(self) -> None:
        """A header of None is not sent."""
        response = BaseResponse()
        response.headers = {"a": None, "B": "1"}
        assert [("B", "1")] == list(response.reply().headers.items())

    def test_header_injection(self) -> None:
        """CR and LF fail the plugin."""
        response = BaseResponse()
        response.headers["x"] = "a\nb: c"
        with pytest.raises(ValueError, match="must not contain control characters"):
            response.reply()


def test_attributes_of_the_request() -> None:
    """They are those that the article documents, as plain values and real dicts."""
    request = BaseRequest(a_request("/get", ARGS, HEADERS, method="POST", call_id=3, conf_token=4, src_ip=b"\x7f\0\0\1"))
    assert (3, 4, "POST", "/get", "127.0.0.1") == (request.id, request.conf_token, request.method, request.path, request.src_ip)
    assert '{"host": "h", "user-agent": "curl", "content-length": "3", "r": "2"}' == json.dumps(request.headers)
    assert {"x": "1", "flag": ""} == request.args
    assert request.headers is request.headers
    assert "curl" == request.headers.get("User-Agent")
    request.headers = {"only": "mine"}
    assert {"only": "mine"} == request.headers


def test_misspelt_attributes() -> None:
    """A misspelt name raises, and the error says what there is."""
    with pytest.raises(AttributeError, match="'hedaers'; it has id, conf_token, method, path, headers, args, src_ip"):
        _ = BaseRequest(a_request()).hedaers
    with pytest.raises(AttributeError, match="satus_code"):
        BaseResponse().satus_code = 200  # type: ignore[attr-defined]
