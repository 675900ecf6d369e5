# SPDX-License-Identifier: Apache-2.0
"""What a test sends, as the gateway would show it to the runner."""

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
    """Path and arguments are decoded as the gateway does it: `?flag` has no value, the values of one name stand together."""
    sent = make_request("GET", url)

    assert (path, args) == (sent.path, sent.args)


def test_params() -> None:
    """Arguments can be given beside the URL's: lists repeat, None is a flag, numbers and truth values are written as JSON does."""
    sent = make_request("get", "/?a=0", params={"a": [1, "x y"], "b": None, "c": True, "d": 1.5})

    assert (("a", "0"), ("a", "1"), ("a", "x y"), ("b", None), ("c", "true"), ("d", "1.5")) == sent.args
    assert "/?a=0&a=1&a=x%20y&b&c=true&d=1.5" == sent.target
    assert (("a", "1"), ("a", "2")) == make_request("GET", "/", params=[("a", "1"), ("a", "2")]).args


def test_headers() -> None:
    """Names are in lower case, and the values of one name stand together; a host is there anyway, from the URL where it has one."""
    sent = make_request("GET", "http://example.com/", headers=[("X-A", "1"), ("X-B", "2"), ("x-a", "3")])

    assert (("host", "example.com"), ("x-a", "1"), ("x-a", "3"), ("x-b", "2")) == sent.headers
    assert (("host", "mine"),) == make_request("GET", "/", headers={"Host": "mine"}).headers


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
    """A body comes in three ways, with its length, and with its type where that is known."""
    sent = make_request("POST", "/", **given)

    headers = dict(sent.headers)
    assert (body, content_type, str(len(body))) == (sent.body, headers.get("content-type"), headers["content-length"])


def test_no_body() -> None:
    """Without a body there is no length, and the gateway's answer has no result; nor is there a response's body in this phase."""
    sent = make_request("GET", "/")

    assert (("host", "127.0.0.1"),) == sent.headers
    assert None is sent.answer(ReqBody())
    assert None is make_request("POST", "/", body="x").answer(RespBody())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"method": "PURGE"}, ValueError, "never sees PURGE"),
        ({"url": "users"}, ValueError, "begins with a slash"),
        ({"body": "x", "json": 1}, TypeError, "only one"),
        ({"body": {"a": 1}}, TypeError, "json="),
        ({"headers": {"x": 1}}, TypeError, "must be a str"),
        ({"headers": {"x": "a\nb"}}, ValueError, "control characters"),
        ({"remote_addr": "localhost"}, ValueError, "localhost"),
    ],
)
def test_what_cannot_be_sent(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    """What no gateway would show to a runner is refused at the test's line."""
    with pytest.raises(error, match=text):
        make_request(**{"method": "GET", "url": "/", **arguments})


def test_message() -> None:
    """The message has what the gateway sends: IPv6 in 16 bytes, and no more than 100 headers."""
    sent = make_request("PATCH", "/a?b", headers=[(f"x-{number}", "1") for number in range(200)], remote_addr="::1")
    message = sent.message(3, 7)

    assert (3, 7, "PATCH", "/a", bytes(15) + b"\1") == (message.id, message.conf_token, message.method, message.path, message.src_ip)
    assert [("b", None)] == message.args.decoded()
    assert 100 == len(message.headers)


def test_response() -> None:
    """A response has a length unless it says otherwise; its body is handed over once, and the request's stays there."""
    request = make_request("POST", "/", body="question", vars={"a": "b"})
    response = make_response(request, 200, {"X-A": "1"}, "answer")

    assert (("X-A", "1"), ("Content-Length", "6")) == response.headers
    assert [b"answer", None] == [response.answer(RespBody()), response.answer(RespBody())]
    assert (b"question", b"b") == (response.answer(ReqBody()), response.answer(Var("a")))
    assert (("content-length", "0"),) == make_response(request, 200, {"content-length": "0"}).headers
    assert () == make_response(request, 204).headers
    assert b"" == make_response(make_request("HEAD", "/"), 200, body="x").body
    with pytest.raises(ValueError, match="between 200 and 999, got 100"):
        make_response(request, 100)
