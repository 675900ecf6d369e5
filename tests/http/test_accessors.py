# SPDX-License-Identifier: Apache-2.0
"""Tests of cookies, host, query, representations and completion."""

from collections.abc import Sequence

import pytest
from multidict import MultiDict

from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http.redaction import is_secret
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.wire.messages import ReqBody
from tests.http.calls import FakeGateway, a_request, a_response

Pairs = Sequence[tuple[str, str | None]]


@pytest.mark.parametrize(
    ("headers", "cookies"),
    [
        ([], {}),
        ([("cookie", "a=1; b=2")], {"a": "1", "b": "2"}),
        ([("cookie", "a=1;b=2 ;; c ; =x")], {"a": "1", "b": "2"}),
        ([("cookie", 'a="1"; b=x=y')], {"a": '"1"', "b": "x=y"}),
        ([("cookie", "a=\udcff; ü=1")], {"a": "\udcff", "ü": "1"}),
    ],
)
def test_cookies_of_a_request(headers: Pairs, cookies: dict[str, str]) -> None:
    """Each pair is a cookie, whose value is not changed. Parts that are not pairs are ignored."""
    assert dict(a_request(headers=headers).cookies) == cookies


def test_cookies_that_repeat() -> None:
    """A name reads as its first value, and all values are kept, also those of several headers."""
    cookies = a_request(headers=[("cookie", "a=1; a=2"), ("cookie", "a=3")]).cookies
    assert (cookies["a"], cookies.getall("a")) == ("1", ["1", "2", "3"])


def test_cookies_follow_edits() -> None:
    """The cookies are those of the current headers."""
    request = a_request(headers=[("cookie", "a=1")])
    request.headers["cookie"] = "b=2"
    assert request.cookies == MultiDict(b="2")


def test_cookies_of_a_response() -> None:
    """The cookies of a response have no attributes."""
    response = a_response([("Set-Cookie", "a=1; Path=/; HttpOnly"), ("set-cookie", "b=2"), ("set-cookie", "c")])
    assert list(response.cookies.items()) == [("a", "1"), ("b", "2")]


def test_host() -> None:
    """`host` is the current header, or "" if it is missing."""
    request = a_request(headers=[("host", "example.com:8080")])
    assert request.host == "example.com:8080"
    request.headers["host"] = "example.org"
    assert request.host == "example.org"
    assert a_request().host == ""


@pytest.mark.parametrize(
    ("args", "query"),
    [
        ([], ""),
        ([("a", "1"), ("b", "2"), ("a", "3")], "a=1&b=2&a=3"),
        ([("flag", None), ("empty", "")], "flag&empty="),
        ([("a b", "c&d=e+f#%"), ("ü", "\udcff/:@,")], "a%20b=c%26d%3De%2Bf%23%25&%C3%BC=%FF/:@,"),
    ],
)
def test_query(args: Pairs, query: str) -> None:
    """`query` has the arguments in order, percent-encoded. One without a value has no `=`. Reading them changes nothing."""
    request = a_request(args=args)
    assert request.query == query
    assert list(request.args)[:1] == [name for name, _ in args][:1]
    assert request.query == query


def test_query_follows_edits() -> None:
    """An edited argument has its new value."""
    request = a_request(args=[("flag", None), ("other", None)])
    request.args["flag"] = "x"
    request.args.add("a", "1")
    assert request.query == "flag=x&other&a=1"


@pytest.mark.parametrize("name", ["query", "host", "cookies"])
def test_not_assignable(name: str) -> None:
    """Assigning it raises an error that names what to edit instead."""
    with pytest.raises(UnsupportedEdit, match=rf"request\.{name} can't be assigned: (edit|set) "):
        setattr(a_request(), name, "x")
    with pytest.raises(UnsupportedEdit, match=r"response\.cookies can't be assigned: add a header"):
        a_response().cookies = {}  # type: ignore[assignment]


SECRETS = [
    ("authorization", "Bearer s3cret"),
    ("Cookie", "id=s3cret"),
    ("set-cookie", "id=s3cret"),
    ("x-api-key", "s3cret"),
    ("apikey", "s3cret"),
    ("X-Auth-Token", "s3cret"),
    ("proxy-authorization", "s3cret"),
    ("x-amz-security-token", "s3cret"),
]


@pytest.mark.parametrize("pair", SECRETS)
def test_representations_hide_secrets(pair: tuple[str, str]) -> None:
    """No representation contains a value that may be secret, edited or not."""
    request, response = a_request(args=[("token", "s3cret")], headers=[pair, ("x-a", "1")]), a_response([pair])
    request.headers[pair[0]] = "s3cret again"
    request.response_headers[pair[0]] = "s3cret"
    shown = [repr(each) for each in (request, request.headers, request.args, request.response_headers, response, response.headers)]
    assert [text for text in shown if "s3cret" in text] == []
    assert "'x-a': '1'" in repr(request.headers)


def test_representations_hide_secrets_in_urls() -> None:
    headers = a_request(headers=[("referer", "https://x/?a=1&token=s3cret&b=2")]).headers

    assert "'referer': 'https://x/?a=1&token=***&b=2'" in repr(headers)


def test_not_secret() -> None:
    """Values of other names are shown."""
    assert [name for name in ("host", "content-type", "x-request-id", "accept", "page", "keyword", "monkey") if is_secret(name)] == []


def test_representations() -> None:
    """A representation has no values, and no info request is sent for it."""
    gateway = FakeGateway({ReqBody(): b"x"})
    request = a_request("/a", [("page", "1"), ("page", "2")], [("host", "h"), ("a\nb", "1")], gateway=gateway, method="POST")
    assert repr(request) == r"<Request POST '/a', arguments: page; headers: host, 'a\nb'>"
    assert repr(a_response(status=404)) == "<Response 404, headers: none>"
    assert gateway.asked == []


@pytest.mark.parametrize("message", [a_request(), a_response()])
def test_completion(message: Request | Response) -> None:
    """`dir` lists attributes that exist and are documented, without those that only the runner uses."""
    offered = dir(message)
    assert [name for name in offered if name.startswith("_") or not getattr(type(message), name).__doc__] == []
    assert {"to_message", "mark", "copy", "prefetch"} & set(offered) == set()
    assert {"headers", "cookies", "read", "aread", "body", "context"} <= set(offered)
