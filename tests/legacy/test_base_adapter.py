# SPDX-License-Identifier: Apache-2.0
"""The request and the response that a `Base` gets, and the edits or the reply that result."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from apisix.runner.http.request import Request
from apisix.runner.legacy.base_adapter import BaseRequest, BaseResponse, shared_objects
from tests.http.calls import Pairs, a_request, rewrite, sent, stop

HEADERS: Pairs = [("host", "h"), ("user-agent", "curl"), ("content-length", "3"), ("r", "1"), ("r", "2")]
ARGS: Pairs = [("x", "1"), ("flag", None)]

Filter = Callable[[Any, Any], None]


def rewritten(request: Request, plugin: Filter) -> Request:
    """Run a filter that lets the request continue."""
    seen, response = BaseRequest(request), BaseResponse()
    plugin(seen, response)
    response.rewrite(request, seen, "plugin")
    return request


def test_the_stop_sample() -> None:
    """The sample `stop` of the article. The reply has the headers of the request, except framing headers, and a new one."""

    def filter(request: Any, response: Any) -> None:
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers
        response.body = "Hello, Python Runner of APISIX"
        response.status_code = 201

    request, response = a_request("/get", ARGS, HEADERS), BaseResponse()
    filter(BaseRequest(request), response)
    action = stop(request, response.reply())
    assert (action.status, action.body) == (201, b"Hello, Python Runner of APISIX")
    headers = list(action.headers)
    assert headers[:4] == [("host", "h"), ("user-agent", "curl"), ("r", "2"), ("X-Resp-A6-Runner", "Python")]
    assert headers[4:] == [("content-type", "text/plain; charset=utf-8")]


def test_the_rewrite_sample() -> None:
    """The sample `rewrite` of the article. It sets a header and an argument, and edits nothing else."""

    def filter(request: Any, response: Any) -> None:
        headers = request.headers
        headers["X-Resp-A6-Runner"] = "Python"
        response.headers = headers
        args = request.args
        args["a6_runner"] = "Python"
        response.args = args
        response.path = request.path

    action = rewrite(rewritten(a_request("/get", ARGS, HEADERS), filter))
    assert list(action.headers) == [("x-resp-a6-runner", "Python")]
    assert (action.path, list(action.args), action.body) == (None, [("a6_runner", "Python")], b"")


class TestRewrite:
    """The edits that the response results in if the request continues."""

    def test_path(self) -> None:
        """A path is set if it differs."""

        def filter(request: Any, response: Any) -> None:
            response.path = "/a6/python/runner"

        assert rewrite(rewritten(a_request("/get"), filter)).path == "/a6/python/runner"

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_nothing(self, nothing: str | None) -> None:
        """A filter that sets nothing, or only empty values, edits nothing."""

        def filter(request: Any, response: Any) -> None:
            response.path = nothing
            response.headers = response.args = None if nothing is None else {}

        assert sent(rewritten(a_request("/get", ARGS, HEADERS), filter)).action is None
        assert sent(rewritten(a_request("/get", ARGS, HEADERS), lambda request, response: None)).action is None

    def test_the_request_alone(self) -> None:
        """Changing the dicts or attributes of the request does not edit it."""

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
        assert (list(action.headers), list(action.args)) == ([("x-a", "12")], [("a", "1")])

    def test_none_deletes_and_a_missing_name_is_not_changed(self) -> None:
        """None deletes a name in any spelling. A missing name is not changed. An empty value is a value."""

        def filter(request: Any, response: Any) -> None:
            response.headers = {"User-Agent": None, "HOST": "h", "R": "2", "nope": None, "e": ""}
            response.args = {"flag": None, "x": ""}

        action = rewrite(rewritten(a_request("/get", ARGS, HEADERS), filter))
        assert (list(action.headers), list(action.args)) == ([("user-agent", None)], [("flag", None), ("x", "")])

    def test_repeats_that_were_not_touched(self) -> None:
        """A repeated header is one entry with the last value. If that is assigned unchanged, it is not an edit."""

        def filter(request: Any, response: Any) -> None:
            assert request.headers["R"] == "2"
            response.headers = request.headers
            response.args = request.args

        assert sent(rewritten(a_request("/", [("a", "1"), ("a", "2")], HEADERS), filter)).action is None

    def test_values_of_other_types(self) -> None:
        """A value that is not a str raises an error that contains its name."""

        def filter(request: Any, response: Any) -> None:
            response.headers["x"] = 5

        with pytest.raises(TypeError, match="the value of header 'x' must be a str, got int"):
            rewritten(a_request(), filter)

    def test_edits_of_earlier_plugins(self) -> None:
        """A plugin gets the edits of earlier plugins, and can add edits."""
        request = a_request("/get", ARGS, HEADERS)
        request.headers["x-before"] = "1"
        del request.headers["r"]
        request.args["y"] = "2"
        request.path = "/before"

        def filter(request: Any, response: Any) -> None:
            assert (request.headers["X-Before"], "r" in request.headers, request.args["y"], request.path) == ("1", False, "2", "/before")
            response.headers["x-after"] = request.headers["x-before"]

        action = rewrite(rewritten(request, filter))
        assert list(action.headers) == [("x-before", "1"), ("r", None), ("x-after", "1")]
        assert (action.path, list(action.args)) == ("/before", [("y", "2")])


class TestReply:
    """The reply that the response results in if the plugin stops the chain."""

    @pytest.mark.parametrize("unset", [None, 0])
    def test_defaults(self, unset: int | None) -> None:
        """The default of the status is 200, and that of the body is empty."""
        response = BaseResponse()
        response.status_code = unset
        assert (response.reply().status, response.reply().body, list(response.reply().headers.items())) == (200, b"", [])
        response.body = None
        assert response.reply().body == b""

    def test_body(self) -> None:
        """A body is a str or bytes."""
        response = BaseResponse()
        response.body = b"\xff"
        assert response.reply().body == b"\xff"
        response.body = "\udcff"
        assert response.reply().body == b"\xff"

    def test_headers_of_none(self) -> None:
        """A header whose value is None is not sent."""
        response = BaseResponse()
        response.headers = {"a": None, "B": "1"}
        assert list(response.reply().headers.items()) == [("B", "1")]

    def test_header_injection(self) -> None:
        """CR and LF raise an error."""
        response = BaseResponse()
        response.headers["x"] = "a\nb: c"
        with pytest.raises(ValueError, match="must not contain control characters"):
            response.reply()


def test_attributes_of_the_request() -> None:
    """They are those that the article documents. Headers and arguments are dicts."""
    request = BaseRequest(a_request("/get", ARGS, HEADERS, method="POST", call_id=3, conf_token=4, src_ip=b"\x7f\0\0\1"))
    assert (request.id, request.conf_token, request.method, request.path, request.src_ip) == (3, 4, "POST", "/get", "127.0.0.1")
    assert json.dumps(request.headers) == '{"host": "h", "user-agent": "curl", "content-length": "3", "r": "2"}'
    assert request.args == {"x": "1", "flag": ""}
    assert request.headers is request.headers
    assert request.headers.get("User-Agent") == "curl"
    request.headers = {"only": "mine"}
    assert request.headers == {"only": "mine"}


def test_misspelt_attributes() -> None:
    """A misspelt name raises an error with the existing attributes."""
    with pytest.raises(AttributeError, match="'hedaers'; it has id, conf_token, method, path, headers, args, src_ip"):
        _ = BaseRequest(a_request()).hedaers
    with pytest.raises(AttributeError, match="satus_code"):
        BaseResponse().satus_code = 200  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/a", "/a", id="lower than that of the first plugin"),
        pytest.param("/z", "/z", id="higher"),
        pytest.param("/m", "/between", id="the same, which is not an edit"),
    ],
)
def test_in_a_chain_the_last_path_that_was_changed_applies(path: str, expected: str) -> None:
    request = a_request("/get")
    seen, response = shared_objects(request)
    response.path = "/m"
    response.rewrite(request, seen, "first")
    assert request.path == "/m"
    request.path = "/between"  # by a plugin of another kind

    seen, response = shared_objects(request)
    assert response.path == "/m"
    response.path = path
    response.rewrite(request, seen, "second")

    assert request.path == expected
