# SPDX-License-Identifier: Apache-2.0
"""Tests of the body and the variables, which are fetched from the gateway."""

import asyncio

import pytest

from apisix.runner.errors import BodyError, WrongContext
from apisix.runner.http.phase import Phase
from apisix.runner.wire.messages import ReqBody, Var
from tests.http.calls import FakeGateway, a_request, sent

FORM = "application/x-www-form-urlencoded"


class TestBody:
    """The accessors of the body."""

    def test_forms(self) -> None:
        """All accessors use one info reply."""
        gateway = FakeGateway({ReqBody(): b'["\xc3\xbc"]'})
        request = a_request(gateway=gateway)
        assert (request.read(), request.text(), request.json()) == (b'["\xc3\xbc"]', '["ü"]', ["ü"])
        assert (request.body, gateway.asked) == (b'["\xc3\xbc"]', [[ReqBody()]])

    def test_none(self) -> None:
        """No body reads as b"", and this reply is kept too."""
        gateway = FakeGateway()
        request = a_request(gateway=gateway)
        assert (request.read(), request.body, request.text(), len(gateway.asked)) == (b"", b"", "", 1)
        with pytest.raises(BodyError, match="the body is empty, so it is not JSON"):
            request.json()

    def test_assigned(self) -> None:
        """All accessors return an assigned body, and no info request is sent."""
        gateway = FakeGateway({ReqBody(): b"old"})
        request = a_request(headers=[("content-type", FORM), ("content-length", str(2**30))], gateway=gateway)
        request.body = b"a=1&a=2&e=&a+b=%C3%BC"
        assert request.body == request.read()
        assert list(request.form().items()) == [("a", "1"), ("a", "2"), ("e", ""), ("a b", "ü")]
        request.prefetch(["body"])
        assert gateway.asked == []

    async def test_assigned_in_a_coroutine(self) -> None:
        """An assigned body can be read in a coroutine with and without `await`."""
        request = a_request(headers=[("content-type", FORM)])
        request.body = b"a=1"
        assert (request.read(), await request.aread(), await request.atext(), (await request.aform())["a"]) == (b"a=1", b"a=1", "a=1", "1")

    @pytest.mark.parametrize("length", [str(2**24), str(2**24 - 1), str(2**24 - 27), "9" * 30, "9" * 5000])
    def test_too_long(self, length: str) -> None:
        """A body that is too long to be transferred raises an error. No info request is sent, since it would end the call."""
        gateway = FakeGateway({ReqBody(): b"x"})
        request = a_request(headers=[("content-length", length)], gateway=gateway)
        with pytest.raises(BodyError, match="can't be read"):
            request.read()
        with pytest.raises(BodyError):
            asyncio.run(request.aread())
        del request.headers["content-length"]  # the received header counts
        with pytest.raises(BodyError):
            request.text()
        assert gateway.asked == []

    @pytest.mark.parametrize("length", [str(2**24 - 28), "0", "", "x", "-1", "²"])
    def test_not_too_long(self, length: str) -> None:
        """The longest body that fits into a frame is requested. So is a body with an invalid content-length."""
        assert a_request(headers=[("content-length", length)], gateway=FakeGateway({ReqBody(): b"x"})).read() == b"x"


PROTOCOL = Var("server_protocol")


class TestWithheldBody:
    """APISIX 3.9 to 3.16 does not transfer the body of an HTTP/2 request without content-length, although the upstream gets it."""

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    async def test_refused(self, method: str) -> None:
        """Each accessor raises an error, so that a plugin that checks bodies can't be bypassed."""
        request = a_request(method=method, gateway=FakeGateway({PROTOCOL: b"HTTP/2.0"}))
        for accessor in ("aread", "atext", "ajson", "aform", "afiles"):
            with pytest.raises(BodyError, match=r"over HTTP/2\.0 without content-length, and then APISIX 3\.9 to 3\.16"):
                await getattr(request, accessor)()

    def test_plain_forms(self) -> None:
        """The plain accessors raise the error too, and nothing is requested twice."""
        gateway = FakeGateway({PROTOCOL: b"HTTP/2.0"})
        request = a_request(method="POST", gateway=gateway)
        for accessor in ("read", "text", "json", "form", "read"):
            with pytest.raises(BodyError, match="without content-length"):
                getattr(request, accessor)()
        with pytest.raises(BodyError):
            assert request.body
        assert gateway.asked == [[ReqBody()], [PROTOCOL]]

    @pytest.mark.parametrize("protocol", [b"HTTP/1.1", b"HTTP/1.0", b"", None])
    def test_other_protocols(self, protocol: bytes | None) -> None:
        """In HTTP/1, a request without a length has no body."""
        assert a_request(method="POST", gateway=FakeGateway({PROTOCOL: protocol or None})).read() == b""

    @pytest.mark.parametrize(
        ("method", "headers", "body"),
        [
            ("GET", [], None),
            ("DELETE", [], None),
            ("POST", [("content-length", "0")], None),
            ("POST", [("Transfer-Encoding", "chunked")], None),
            ("POST", [], b"x"),
        ],
    )
    def test_not_in_doubt(self, method: str, headers: list[tuple[str, str | None]], body: bytes | None) -> None:
        """The protocol is requested only if a body may be missing."""
        gateway = FakeGateway({ReqBody(): body, PROTOCOL: b"HTTP/2.0"})
        request = a_request(method=method, headers=headers, gateway=gateway)
        request.prefetch(["body"])
        assert request.read() == (body or b"")
        assert gateway.asked == [[ReqBody()]]

    async def test_fetched_before_the_hook(self) -> None:
        """With `needs`, the plain accessors of a coroutine distinguish a withheld body from an empty one."""
        refused = a_request(method="POST", gateway=FakeGateway({PROTOCOL: b"HTTP/2.0"}))
        await refused.aprefetch(["body"])
        with pytest.raises(BodyError):
            refused.read()
        empty = a_request(method="POST", gateway=FakeGateway({PROTOCOL: b"HTTP/1.1"}))
        await empty.aprefetch(["body"])
        assert empty.read() == b""

    def test_assigned(self) -> None:
        """An assigned body can be read. Reading its size sends no info request."""
        gateway = FakeGateway({PROTOCOL: b"HTTP/2.0"})
        request = a_request(method="POST", gateway=gateway)
        with pytest.raises(BodyError):
            request.read()
        assert request.known_body() == b""
        request.body = b"x"
        assert request.read() == b"x"
        assert gateway.asked == [[ReqBody()], [PROTOCOL]]


class TestVariables:
    """The variables of nginx and APISIX."""

    def test_kept(self) -> None:
        """A variable is requested once, also if it is not set. An empty one is "", not None."""
        gateway = FakeGateway({Var("a"): b"\xff", Var("e"): b""})
        request = a_request(gateway=gateway)
        assert [request.var(name) for name in ("a", "a", "nope", "nope", "e")] == ["\udcff", "\udcff", None, None, ""]
        assert gateway.asked == [[Var("a")], [Var("nope")], [Var("e")]]

    async def test_in_a_coroutine(self) -> None:
        """The plain form raises an error that names the async variant and `needs`. After `avar`, both return the value."""
        request = a_request(gateway=FakeGateway({Var("a"): b"1"}))
        with pytest.raises(WrongContext, match=r"request\.var\('a'\) .*`await request\.avar\('a'\)`.*needs = \(\"a\",\)"):
            request.var("a")
        assert (await request.avar("a"), request.var("a")) == ("1", "1")

    @pytest.mark.parametrize("accessor", ["read", "text", "json", "form"])
    async def test_each_accessor_names_its_async_variant(self, accessor: str) -> None:
        """The error names the accessor that was called, and its async variant."""
        with pytest.raises(WrongContext, match=rf"request\.{accessor}\(\) .*`await request\.a{accessor}\(\)`.*needs = \(\"body\",\)"):
            getattr(a_request(), accessor)()

    async def test_several_tasks(self) -> None:
        """Tasks of a call that need the same variable share one info request. Others are sent at the same time."""
        gateway = FakeGateway({Var("a"): b"1", Var("b"): b"2"})
        request = a_request(gateway=gateway)
        assert await asyncio.gather(*(request.avar(name) for name in ("a", "a", "b", "a"))) == ["1", "1", "2", "1"]
        assert gateway.asked == [[Var("a")], [Var("b")]]

    async def test_a_cancelled_wait(self) -> None:
        """If the task that sent the info request is cancelled, another task that waits for the reply sends it again."""
        gateway = FakeGateway({Var("a"): b"1"})
        gateway.may_reply = asyncio.Event()
        request = a_request(gateway=gateway)
        first = asyncio.ensure_future(request.avar("a"))
        await gateway.arrived.wait()
        second = asyncio.ensure_future(request.avar("a"))
        await asyncio.sleep(0)  # so that it finds the pending info request
        first.cancel()
        gateway.may_reply.set()
        assert await second == "1"
        assert first.cancelled()
        assert len(gateway.asked) == 2


class TestPrefetch:
    """Fetching what a plugin lists in `needs`."""

    def test_back_to_back(self) -> None:
        """All info requests are sent together, and nothing is requested twice."""
        gateway = FakeGateway({ReqBody(): b"x", Var("a"): b"1"})
        request = a_request(gateway=gateway)
        request.prefetch(["body", "a", "nope", "a"])
        request.prefetch(("a", "body"))
        request.prefetch(())
        assert gateway.asked == [[ReqBody(), Var("a"), Var("nope")]]
        assert (request.read(), request.var("a"), request.var("nope")) == (b"x", "1", None)
        assert len(gateway.asked) == 1

    async def test_in_a_coroutine(self) -> None:
        """After `aprefetch`, the plain accessors can be used in a coroutine."""
        gateway = FakeGateway({ReqBody(): b"{}", Var("a"): b"1"})
        request = a_request(gateway=gateway)
        await request.aprefetch(["body", "a"])
        await request.aprefetch(["body"])
        assert (request.json(), request.var("a"), await request.ajson()) == ({}, "1", {})
        assert gateway.asked == [[ReqBody(), Var("a")]]

    def test_a_body_that_is_too_long(self) -> None:
        """It is not fetched, so that reading it raises the error, which the plugin can catch."""
        gateway = FakeGateway({Var("a"): b"1"})
        request = a_request(headers=[("content-length", str(2**24))], gateway=gateway)
        request.prefetch(["body", "a"])
        assert gateway.asked == [[Var("a")]]
        with pytest.raises(BodyError):
            request.read()


class TestObserving:
    """The attributes that the development gateway and the test kit read. Reading them fetches nothing."""

    def test_before_anything_was_fetched(self) -> None:
        """If nothing was fetched or assigned, they are None or empty."""
        gateway = FakeGateway({ReqBody(): b"abc"})
        request = a_request(gateway=gateway)
        assert (request.assigned_body, request.known_body(), request.fetched(), gateway.asked) == (None, None, (), [])
        request.var("a")
        assert (request.known_body(), request.fetched()) == (None, (Var("a"),))

    def test_fetched_and_assigned(self) -> None:
        """The size is that of the assigned body, or of the fetched one."""
        request = a_request(gateway=FakeGateway({ReqBody(): b"abc"}))
        assert request.read() == b"abc"
        assert (request.assigned_body, request.known_body(), request.fetched()) == (None, b"abc", (ReqBody(),))
        request.body = b"four"
        assert (request.assigned_body, request.known_body()) == (b"four", b"four")


class TestCopy:
    """The copy with which a call continues if a plugin fails."""

    def test_edits_are_independent(self) -> None:
        """A copy has the edits so far. Later edits of the original do not change it."""
        request = a_request("/a", [("x", "1")], [("h", "1")], call_id=2)
        request.path = "/b"
        request.headers["h"] = "2"
        request.args["x"] = "2"
        request.body = b"2"
        request.response_headers["r"] = "2"
        before = sent(request)
        copied = request.copy()
        request.path = "/c"
        del request.headers["h"]
        request.args.add("x", "3")
        request.body = b"3"
        request.response_headers["r"] = "3"
        assert sent(copied) == before
        assert before != sent(request)

    def test_what_is_shared(self) -> None:
        """A copy shares the context and the info replies, also later ones."""
        gateway = FakeGateway({Var("a"): b"1"})
        request = a_request(gateway=gateway, phase=Phase.POST_REQ, route_key="route#1")
        copied = request.copy()
        copied.context["user"] = "jack"
        assert (copied.var("a"), request.var("a")) == ("1", "1")
        assert (request.context, len(gateway.asked)) == ({"user": "jack"}, 1)
        assert (copied.phase, copied.route_key) == (Phase.POST_REQ, "route#1")

    def test_without_edits(self) -> None:
        """The copy of a request without edits sends the same message."""
        request = a_request("/a", call_id=2)
        assert sent(request) == sent(request.copy())


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"\x7f\0\0\x01", "127.0.0.1"), (b"\0" * 15 + b"\x01", "::1"), (b"", ""), (b"\x01\x02", "")],
)
def test_remote_addr(raw: bytes, text: str) -> None:
    """4 bytes are an IPv4 address, and 16 an IPv6 address. Anything else reads as ""."""
    assert a_request(src_ip=raw).remote_addr == text


def test_received_attributes() -> None:
    """The other attributes are those that the gateway sent."""
    request = a_request("/a", method="PATCH", call_id=5, conf_token=6, phase=Phase.PRE_REQ, route_key="k")
    assert (
        request.id,
        request.method,
        request.path,
        request.conf_token,
        request.phase,
        request.route_key,
    ) == (5, "PATCH", "/a", 6, Phase.PRE_REQ, "k")
    assert (request.context, request.phase) == ({}, "ext-plugin-pre-req")
