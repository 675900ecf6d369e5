# SPDX-License-Identifier: Apache-2.0
"""What a test sends, as the gateway would send it to the runner."""

from typing import Any

import pytest

from apisix.runner.wire.messages import ReqBody, RespBody, Var
from apisix.testing.sending.messages import make_request, make_response


@pytest.mark.parametrize(
    ("url", "path", "args"),
    [
        ("/users?flag", "/users", (("flag", None),)),
        ("/a%20b/%ff?x=%2F+y&x=&y", "/a b/\udcff", (("x", "/ y"), ("x", ""), ("y", None))),
        ("/a?x=1&y=2&x=3", "/a", (("x", "1"), ("x", "3"), ("y", "2"))),
        ("/a//b/./c/../d/", "/a/b/d/", ()),
        ("http://example.com/a?b=1#c", "/a", (("b", "1"),)),
        ("http://example.com", "/", ()),
        ("/next?to=http://example.com/", "/next", (("to", "http://example.com/"),)),
        ("/ü?ö=ä", "/ü", (("ö", "ä"),)),
    ],
)
def test_url(url: str, path: str, args: tuple[Any, ...]) -> None:
    """The path and the arguments are decoded as by the gateway. `?flag` has no value, and arguments are grouped by name."""
    sent = make_request("GET", url)

    assert (sent.path, sent.args) == (path, args)


def test_params() -> None:
    """`params` are added to the arguments of the URL. Lists repeat a name, None means no value, other values are written as in JSON."""
    sent = make_request("get", "/?a=0", params={"a": [1, "x y"], "b": None, "c": True, "d": 1.5})

    assert sent.args == (("a", "0"), ("a", "1"), ("a", "x y"), ("b", None), ("c", "true"), ("d", "1.5"))
    assert sent.target == "/?a=0&a=1&a=x%20y&b&c=true&d=1.5"
    assert make_request("GET", "/", params=[("a", "1"), ("a", "2")]).args == (("a", "1"), ("a", "2"))


def test_headers() -> None:
    """Names are in lower case, and headers are grouped by name. The host is always set, if possible from the URL."""
    sent = make_request("GET", "http://example.com/", headers=[("X-A", "1"), ("X-B", "2"), ("x-a", "3")])

    assert sent.headers == (("host", "example.com"), ("x-a", "1"), ("x-a", "3"), ("x-b", "2"))
    assert make_request("GET", "/", headers={"Host": "mine"}).headers == (("host", "mine"),)


@pytest.mark.parametrize(
    ("given", "body", "content_type"),
    [
        ({"body": b"\xff\x00"}, b"\xff\x00", None),
        ({"body": "ü\udcff"}, b"\xc3\xbc\xff", None),
        ({"json": {"a": [1, None]}}, b'{"a":[1,null]}', "application/json"),
        ({"form": {"a": "x y", "b": ["1", "2"]}}, b"a=x+y&b=1&b=2", "application/x-www-form-urlencoded"),
        ({"json": 1, "headers": {"Content-Type": "text/x"}}, b"1", "text/x"),
    ],
)
def test_body(given: dict[str, Any], body: bytes, content_type: str | None) -> None:
    """A body can be given in three ways. Its length is set, and its type if it is known."""
    sent = make_request("POST", "/", **given)

    headers = dict(sent.headers)
    assert (sent.body, headers.get("content-type"), headers["content-length"]) == (body, content_type, str(len(body)))


def test_no_body() -> None:
    """Without a body, no length is set, and the info reply is empty. In a request phase, there is no body of a response."""
    sent = make_request("GET", "/")

    assert sent.headers == (("host", "127.0.0.1"),)
    assert sent.info_reply(ReqBody()) is None
    assert make_request("POST", "/", body="x").info_reply(RespBody()) is None


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"method": "PURGE"}, ValueError, "does not send requests with the method PURGE"),
        ({"url": "users"}, ValueError, "must begin with a slash"),
        ({"body": "x", "json": 1}, TypeError, "only one"),
        ({"body": {"a": 1}}, TypeError, "json="),
        ({"headers": {"x": 1}}, TypeError, "must be a str"),
        ({"headers": {"x": "a\nb"}}, ValueError, "control characters"),
        ({"remote_addr": "localhost"}, ValueError, "localhost"),
    ],
)
def test_refused_requests(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    """A request that a gateway would not send raises an error in the test."""
    with pytest.raises(error, match=text):
        make_request(**{"method": "GET", "url": "/", **arguments})


def test_message() -> None:
    """The message has the form that the gateway sends: IPv6 addresses have 16 bytes, and there are at most 100 headers."""
    sent = make_request("PATCH", "/a?b", headers=[(f"x-{number}", "1") for number in range(200)], remote_addr="::1")
    message = sent.message(3, 7)

    assert (message.id, message.conf_token, message.method, message.path, message.src_ip) == (3, 7, "PATCH", "/a", bytes(15) + b"\1")
    assert message.args.decoded() == [("b", None)]
    assert len(message.headers) == 100


def test_response() -> None:
    """The length of a response is set unless its headers contain one. Its body is sent once; that of the request can be read again."""
    request = make_request("POST", "/", body="sent", vars={"a": "b"})
    response = make_response(request, 200, {"X-A": "1"}, "received")

    assert response.headers == (("X-A", "1"), ("Content-Length", "8"))
    assert [response.info_reply(RespBody()), response.info_reply(RespBody())] == [b"received", None]
    assert (response.info_reply(ReqBody()), response.info_reply(Var("a"))) == (b"sent", b"b")
    assert make_response(request, 200, {"content-length": "0"}).headers == (("content-length", "0"),)
    assert make_response(request, 204).headers == ()
    assert make_response(make_request("HEAD", "/"), 200, body="x").body == b""
    with pytest.raises(ValueError, match="between 200 and 999, not 100"):
        make_response(request, 100)
