# SPDX-License-Identifier: Apache-2.0
"""Tests of the message that is sent for a request. There is a test for each sentence of gateway contract, 5."""

from collections.abc import Callable, Sequence

import pytest

from apisix.runner.errors import InfoUnavailable, UnsupportedEdit
from apisix.runner.http.header_rules import REWRITE_IGNORES, STOP_DROPS
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.wire.messages import ExtraInfoReq, HTTPReqCallReq, ReqBody, Var
from tests.http.calls import FakeGateway, a_request, rewrite, sent, stop

REQUEST_PHASES = [Phase.PRE_REQ, Phase.POST_REQ, None]
"""The phases of requests. An old gateway sends no key, so the phase is None there."""


class TestNoAction:
    """Requests that continue unchanged."""

    def test_no_edits(self) -> None:
        """The reply for a request without edits has no action, and the id of the call."""
        assert sent(a_request("/a", [("x", "1")], [("host", "h")], call_id=7)).action is None
        assert sent(a_request(call_id=7)).id == 7

    def test_id_zero(self) -> None:
        """The first call of a gateway has the id 0, and so has its reply."""
        assert sent(a_request(call_id=0)).id == 0

    def test_only_read(self) -> None:
        """Reading and iterating are not edits."""
        request = a_request("/a", [("x", "1"), ("flag", None)], [("host", "h"), ("r", "1"), ("r", "2")])
        assert (request.path, list(request.args), request.headers.getall("R")) == ("/a", ["x", "flag"], ["1", "2"])
        assert len(list(request.headers.items())) == 3
        assert dict(request.response_headers) == {}
        assert sent(request).action is None

    def test_unchanged_values(self) -> None:
        """Assigning the present value is not an edit, before and after iterating."""
        for iterated in (False, True):
            request = a_request("/a", [("x", "1"), ("flag", None)], [("host", "h")])
            if iterated:
                assert len(list(request.headers)) + len(list(request.args)) == 3
            request.path = "/a"
            request.headers["Host"] = "h"
            request.args["x"] = "1"
            request.args["flag"] = ""
            assert sent(request).action is None

    def test_undone_edits(self) -> None:
        """An edit that was undone is not sent."""
        request = a_request("/a", [("x", "1")], [("host", "h")])
        request.path = "/b"
        request.path = "/a"
        request.headers["x-new"] = "1"
        del request.headers["x-new"]
        request.args.add("x", "2")
        request.args["x"] = "1"
        assert sent(request).action is None

    def test_the_received_body(self) -> None:
        """Assigning the received body is not an edit, also after another one was assigned."""
        request = a_request(method="POST", headers=[("content-length", "3")], gateway=FakeGateway({ReqBody(): b"abc"}))
        request.body = request.read()
        assert sent(request).action is None
        request.body = b"new"
        request.body = b"abc"
        assert (sent(request).action, request.assigned_body, request.read()) == (None, None, b"abc")


class TestPath:
    """Rule 5.1."""

    def test_path_only_when_changed(self) -> None:
        """The path is not sent with other edits."""
        request = a_request("/a")
        request.headers["x"] = "1"
        assert rewrite(request).path is None

    def test_changed_path(self) -> None:
        """A changed path is sent without encoding it, since the gateway does that."""
        request = a_request("/a")
        request.path = "/a b/%41/?q/ü"
        assert rewrite(request).path == "/a b/%41/?q/ü"

    def test_bytes_that_are_not_utf_8(self) -> None:
        """`GET /%ff` arrives as a byte that is not UTF-8, and the same byte is sent."""
        request = a_request("/\udcff")
        assert request.path == "/\udcff"
        request.path += "/more"
        assert rewrite(request).path == "/\udcff/more"

    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            ([], []),
            ([("a", "1"), ("b", "2")], [("a", "1")]),
            ([("a", "1"), ("b", "x"), ("a", "2")], [("a", "1"), ("a", "2")]),
            ([("flag", None), ("b", "2")], [("b", "2")]),
            ([("flag", None)], [("flag", "")]),
            ([("empty", "")], [("empty", "")]),
            ([("flag", None), ("flag", "1")], [("flag", ""), ("flag", "1")]),
        ],
    )
    def test_the_query_is_kept_on_old_gateways(self, args: list[tuple[str, str | None]], expected: list[tuple[str, str]]) -> None:
        """Before 3.16, a path without arguments drops the query, so all values of one argument are sent, if possible one with values."""
        request = a_request("/a", args)
        request.path = "/b"
        assert list(rewrite(request).args) == expected

    def test_changed_args_keep_the_query(self) -> None:
        """If an argument was changed, no other argument has to be sent."""
        request = a_request("/a", [("a", "1"), ("b", "2")])
        request.path = "/b"
        del request.args["b"]
        assert list(rewrite(request).args) == [("b", None)]

    @pytest.mark.parametrize("path", ["", "a", "?a"])
    def test_path_must_begin_with_slash(self, path: str) -> None:
        """An invalid path raises ValueError on assignment."""
        with pytest.raises(ValueError, match='must begin with "/"'):
            a_request().path = path

    def test_path_must_be_text(self) -> None:
        """Bytes raise TypeError, and a lone surrogate raises ValueError."""
        with pytest.raises(TypeError, match=r"request\.path must be a str, got bytes, decode it"):
            a_request().path = b"/a"  # type: ignore[assignment]
        with pytest.raises(ValueError, match="surrogates not allowed"):
            a_request().path = "/\ud800"


class TestPathAfterProxyRewrite:
    """The end of rule 5.1: in each phase the path may be percent-encoded, which only a variable shows."""

    @pytest.mark.parametrize("phase", REQUEST_PHASES)
    def test_encoded_path_is_decoded(self, phase: Phase | None) -> None:
        """If `upstream_uri` is not empty, an assigned path is percent-decoded before it is sent."""
        gateway = FakeGateway({Var("upstream_uri"): b"/pr/a%20b"})
        request = a_request("/pr/a%20b", phase=phase, gateway=gateway)
        request.path += "/%ff%C3%BC/\udcfe"
        assert rewrite(request).path == "/pr/a b/\udcffü/\udcfe"
        assert gateway.asked == [[Var("upstream_uri")]]

    @pytest.mark.parametrize("phase", REQUEST_PHASES)
    def test_args_are_sent_with_the_path(self, phase: Phase | None) -> None:
        """If only arguments changed, the decoded path is sent too, since the gateway ignores them otherwise."""
        gateway = FakeGateway({Var("upstream_uri"): b"/pr/a%2520b?from=pr"})
        request = a_request("/pr/a%2520b", [("from", "pr")], phase=phase, gateway=gateway)
        request.args["a"] = "1"
        action = rewrite(request)
        assert (action.path, list(action.args)) == ("/pr/a%20b", [("a", "1")])

    @pytest.mark.parametrize("phase", REQUEST_PHASES)
    @pytest.mark.parametrize("answer", [None, b""])
    def test_without_proxy_rewrite(self, answer: bytes | None, phase: Phase | None) -> None:
        """If the variable is empty, the assigned path is not decoded, and arguments are sent without a path."""
        request = a_request("/a", phase=phase, gateway=FakeGateway({Var("upstream_uri"): answer}))
        request.path = "/100%25"
        assert rewrite(request).path == "/100%25"
        request = a_request("/a", phase=phase, gateway=FakeGateway({Var("upstream_uri"): answer}))
        request.args["a"] = "1"
        assert rewrite(request).path is None

    def test_decoded_path_is_sent_with_an_argument(self) -> None:
        """The rule for gateways before 3.16 also applies to a decoded path."""
        request = a_request("/a", [("x", "1")], phase=Phase.POST_REQ, gateway=FakeGateway({Var("upstream_uri"): b"/a"}))
        request.path = "/b%20c"
        action = rewrite(request)
        assert (action.path, list(action.args)) == ("/b c", [("x", "1")])

    @pytest.mark.parametrize("phase", REQUEST_PHASES)
    def test_no_info_request_without_need(self, phase: Phase | None) -> None:
        """No info request is sent if neither path nor arguments changed, or if the new path is the same decoded and encoded."""
        gateway = FakeGateway()
        request = a_request("/a%41", phase=phase, gateway=gateway)
        request.path = "/b c"
        request.args["x"] = "1"
        assert not request.reply_may_need_info()
        assert rewrite(request).path == "/b c"
        request = a_request("/a", [("x", "1")], phase=phase, gateway=gateway)
        request.path = "/a"
        request.args["x"] = "1"
        request.headers["x"] = "1"
        assert not request.reply_may_need_info()
        assert list(rewrite(request).headers) == [("x", "1")]
        assert sent(request, Reply(401)).action is not None
        assert gateway.asked == []

    @pytest.mark.parametrize("edit", [lambda request: request.args.add("x", "1"), lambda request: setattr(request, "path", "/%41")])
    def test_no_info_request_if_pre_req_is_first(self, edit: Callable[[Request], None]) -> None:
        """If nothing rewrites a path before ext-plugin-pre-req, the info request is sent in ext-plugin-post-req only."""
        gateway = FakeGateway({Var("upstream_uri"): b"/x"})
        message = HTTPReqCallReq.decode(HTTPReqCallReq(0, b"", "GET", "/a", [], []).encode())
        for phase, asked in ((Phase.PRE_REQ, []), (Phase.POST_REQ, [[Var("upstream_uri")]])):
            request = Request(message, gateway, phase, None, True).copy()
            edit(request)
            assert request.reply_may_need_info() == bool(asked)
            rewrite(request)
            assert gateway.asked == asked

    def test_a_gateway_without_info_requests(self) -> None:
        """Before 2.9, the assigned path is not decoded, and arguments are sent without a path."""

        class Old(FakeGateway):
            def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
                raise InfoUnavailable

        request = a_request("/a", gateway=Old())
        request.path = "/%41"
        assert rewrite(request).path == "/%41"
        request = a_request("/a", gateway=Old())
        request.args["x"] = "1"
        assert (rewrite(request).path, list(rewrite(request).args)) == (None, [("x", "1")])

    def test_the_variable_is_requested_once(self) -> None:
        """If a plugin has read the variable, it is not requested again."""
        gateway = FakeGateway({Var("upstream_uri"): b"/a"})
        request = a_request("/a", phase=Phase.POST_REQ, gateway=gateway)
        assert request.var("upstream_uri") == "/a"
        request.path = "/%41"
        assert rewrite(request).path == "/A"
        assert len(gateway.asked) == 1


class TestHeaders:
    """Rule 5.2."""

    def test_set_and_delete(self) -> None:
        """Changed and deleted headers are sent, with names in lower case, and no others. A deleted one has no value."""
        request = a_request(headers=[("host", "h"), ("cookie", "c"), ("accept", "*/*")])
        request.headers["X-New"] = "1"
        request.headers["HOST"] = "other"
        del request.headers["Cookie"]
        assert list(rewrite(request).headers) == [("x-new", "1"), ("host", "other"), ("cookie", None)]

    @pytest.mark.parametrize("iterated", [False, True])
    def test_empty_value(self, iterated: bool) -> None:
        """A header that is set to "" reads as "", and is sent as a deletion, since the gateway would delete it anyway."""
        request = a_request(headers=[("x", "1"), ("r", "1"), ("r", "2"), ("empty", ""), ("y", "1")])
        if iterated:
            request.headers._materialize()
        request.headers["X"] = ""
        request.headers["r"] = ""
        request.headers["empty"] = ""
        request.headers["never-there"] = ""
        request.headers["y"] = "2"
        assert list(rewrite(request).headers) == [("x", None), ("r", None), ("y", "2")]
        assert (request.headers["x"], request.headers["never-there"]) == ("", "")

    @pytest.mark.parametrize(("count", "sent"), [(99, []), (100, [("never-there", None)])])
    def test_empty_value_of_a_header_that_was_not_received(self, count: int, sent: list[tuple[str, None]]) -> None:
        """It is sent as a deletion if the gateway may have more headers than it has sent."""
        request = a_request(headers=[(f"x-{number}", "1") for number in range(count)])
        request.headers["x-0"] = "2"
        request.headers["never-there"] = ""
        assert list(rewrite(request).headers) == [("x-0", "2"), *sent]

    def test_no_second_value(self) -> None:
        """Adding a second value raises an error at once, and changes nothing."""
        request = a_request(headers=[("x", "1")])
        attempts: list[Callable[[], None]] = [
            lambda: request.headers.add("X", "2"),
            lambda: request.headers.extend({"y": "1", "X": "2"}),
            lambda: request.headers.extend([("z", "1"), ("Z", "2")]),
            lambda: request.headers.update([("z", "1"), ("Z", "2")]),
            lambda: request.headers.merge([("z", "1"), ("Z", "2")]),
        ]
        for attempt in attempts:
            with pytest.raises(UnsupportedEdit, match="more than one value"):
                attempt()
        assert sent(request).action is None

    def test_first_value_by_add(self) -> None:
        """Adding the first value is the same as setting it."""
        request = a_request()
        request.headers.add("X", "1")
        request.headers.extend(Y="2")
        request.headers.merge({"Z": "3", "y": "4"})
        assert list(rewrite(request).headers) == [("x", "1"), ("y", "2"), ("z", "3")]

    def test_received_repeated_header(self) -> None:
        """A header that was received twice can be replaced, deleted, or reduced to one value."""
        received = [("r", "1"), ("r", "2")]
        request = a_request(headers=received)
        request.headers["r"] = "1"
        assert list(rewrite(request).headers) == [("r", "1")]
        request = a_request(headers=received)
        assert request.headers.popone("r") == "1"
        assert list(rewrite(request).headers) == [("r", "2")]
        request = a_request(headers=received)
        assert request.headers.popall("r") == ["1", "2"]
        assert list(rewrite(request).headers) == [("r", None)]

    def test_reduced_to_several_values(self) -> None:
        """An edit that would leave two of three values raises an error, since two can't be sent."""
        request = a_request(headers=[("r", "1"), ("r", "2"), ("r", "3")])
        with pytest.raises(UnsupportedEdit):
            request.headers.popone("r")
        with pytest.raises(UnsupportedEdit):
            request.headers.popitem()
        assert request.headers.getall("r") == ["1", "2", "3"]
        assert sent(request).action is None

    def test_clear(self) -> None:
        """Clearing the headers deletes each name once."""
        request = a_request(headers=[("a", "1"), ("r", "1"), ("r", "2")])
        request.headers.clear()
        assert list(rewrite(request).headers) == [("a", None), ("r", None)]

    @pytest.mark.parametrize("text", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x01", "\x7f"])
    def test_header_injection(self, text: str) -> None:
        """Control characters raise an error in names and values. The error does not contain the value, which may be secret."""
        request = a_request()
        with pytest.raises(ValueError, match="must not contain control characters") as caught:
            request.headers["x"] = text
        assert text not in str(caught.value)
        for edit in (lambda: request.headers.add(text, "v"), lambda: request.headers.setdefault(text, "v")):
            with pytest.raises(ValueError, match="can't be the name of a header"):
                edit()
        assert sent(request).action is None

    @pytest.mark.parametrize(
        ("value", "given"), [(1, r"int, write str\(1\)"), (None, "NoneType"), (b"x", "bytes, decode it"), (["x"], "list")]
    )
    def test_only_text(self, value: object, given: str) -> None:
        """Values that are not str raise an error that has their type."""
        with pytest.raises(TypeError, match=f"must be a str, got {given}"):
            a_request().headers["x"] = value  # type: ignore[assignment]
        with pytest.raises(TypeError):
            a_request().headers[value] = "x"  # type: ignore[index]

    def test_header_without_name(self) -> None:
        """A header with an empty name raises an error."""
        with pytest.raises(ValueError, match="can't be empty"):
            a_request().headers[""] = "x"


class TestBody:
    """Rule 5.3."""

    def test_replaced(self) -> None:
        """An assigned body is sent. It may be binary."""
        request = a_request(method="POST")
        request.body = bytes(range(256))
        assert rewrite(request).body == bytes(range(256))

    def test_other_edits_send_no_body(self) -> None:
        """If no body was assigned, an empty one is sent, which changes nothing."""
        request = a_request()
        request.headers["x"] = "1"
        assert rewrite(request).body == b""

    def test_it_cannot_be_emptied(self) -> None:
        """The protocol can't empty a body. Assigning an empty one raises an error that names the alternative."""
        with pytest.raises(UnsupportedEdit, match=r"can't be emptied.*Reply"):
            a_request().body = b""

    @pytest.mark.parametrize("body", [None, b""])
    def test_empty_over_empty(self, body: bytes | None) -> None:
        """Assigning the empty body of a request changes nothing, also after another body was assigned."""
        request = a_request(gateway=FakeGateway({ReqBody(): body}))
        request.body = request.read()
        request.body = b"other"
        request.body = b""
        assert sent(request).action is None
        assert request.read() == b""

    async def test_empty_over_empty_in_a_coroutine(self) -> None:
        """It changes nothing after `await request.aread()` either."""
        request = a_request(gateway=FakeGateway())
        request.body = await request.aread()
        assert sent(request).action is None

    def test_empty_over_a_length_of_zero(self) -> None:
        """With a content-length of 0, the request has no body, so it does not have to be read first."""
        request = a_request(headers=[("content-length", "0")])
        request.body = b""
        assert sent(request).action is None

    def test_emptied_after_reading(self) -> None:
        """A body that was read and is not empty can't be emptied."""
        request = a_request(gateway=FakeGateway({ReqBody(): b"x"}))
        with pytest.raises(UnsupportedEdit, match="can't be emptied"):
            request.body = request.read().replace(b"x", b"")

    def test_text_is_refused(self) -> None:
        """A str raises TypeError, which names `encode()`."""
        with pytest.raises(TypeError, match=r"must be bytes, got str, append \.encode\(\)"):
            a_request().body = "text"  # type: ignore[assignment]
        with pytest.raises(TypeError, match="must be bytes, got NoneType"):
            a_request().body = None  # type: ignore[assignment]

    @pytest.mark.parametrize(
        "body", [bytearray(b"xy"), memoryview(b"xayb")[::2], type("Bytes", (bytes,), {"__len__": lambda self: 9})(b"xy")]
    )
    def test_other_kinds_of_bytes(self, body: bytes) -> None:
        """Any kind of bytes becomes bytes."""
        request = a_request()
        request.body = body
        assert (type(request.body), rewrite(request).body) == (bytes, b"xy")

    def test_too_long(self) -> None:
        """A body that does not fit into a frame raises an error on assignment."""
        with pytest.raises(UnsupportedEdit, match="do not fit into a frame"):
            a_request().body = bytes(2**24)


class TestResponseHeaders:
    """Rule 5.4."""

    def test_sent(self) -> None:
        """Headers for the client's response are sent, also repeated ones."""
        request = a_request()
        request.response_headers["X-A"] = "1"
        request.response_headers.add("Set-Cookie", "a=1")
        request.response_headers.add("set-cookie", "b=2")
        assert list(rewrite(request).resp_headers) == [("X-A", "1"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")]

    @pytest.mark.parametrize("name", sorted(REWRITE_IGNORES))
    def test_ignored_ones_are_refused(self, name: str) -> None:
        """Each name that the gateway would ignore raises an error."""
        with pytest.raises(UnsupportedEdit, match="the gateway ignores"):
            a_request().response_headers[name.title()] = "x"

    def test_they_are_ten(self) -> None:
        """The gateway contract has ten names."""
        assert len(REWRITE_IGNORES) == 10

    def test_dropped_by_a_reply(self) -> None:
        """A Reply has its own headers. Those for a request that continues are not sent with it."""
        request = a_request()
        request.response_headers["x-a"] = "1"
        assert list(stop(request, Reply(200, b"x", {"x-b": "2"})).headers) == [("x-b", "2")]


class TestArgs:
    """Rule 5.5."""

    def test_set_repeat_delete(self) -> None:
        """The first value of a name replaces, further values are appended, and an entry without value deletes."""
        request = a_request("/", [("keep", "1"), ("keep", "2"), ("z", "3"), ("flag", None)])
        request.args["z"] = "4"
        request.args.add("n", "1")
        request.args.add("n", "2")
        del request.args["keep"]
        assert list(rewrite(request).args) == [("keep", None), ("z", "4"), ("n", "1"), ("n", "2")]

    def test_added_value(self) -> None:
        """An added value is sent together with the present ones, since the first value that is sent replaces them."""
        request = a_request("/", [("a", "1"), ("b", "x")])
        request.args.add("a", "2")
        assert list(rewrite(request).args) == [("a", "1"), ("a", "2")]

    def test_flag(self) -> None:
        """`?flag` reads as "". It can be deleted, and set to a value."""
        request = a_request("/", [("flag", None), ("other", None)])
        assert request.args["flag"] == ""
        request.args["flag"] = "1"
        del request.args["other"]
        assert list(rewrite(request).args) == [("flag", "1"), ("other", None)]

    def test_empty_value(self) -> None:
        """An argument can be set to ""."""
        request = a_request()
        request.args["e"] = ""
        assert list(rewrite(request).args) == [("e", "")]

    def test_names_keep_their_case(self) -> None:
        """The names of arguments do not ignore case."""
        request = a_request("/", [("a", "1")])
        request.args["A"] = "2"
        assert list(rewrite(request).args) == [("A", "2")]
        assert list(request.args.values()) == ["1", "2"]

    def test_any_bytes(self) -> None:
        """Names and values that are not UTF-8 are kept if another value is added."""
        request = a_request("/", [("\udcff", "\udcfe"), ("a", "1")])
        request.args.add("\udcff", "x")
        assert list(rewrite(request).args) == [("\udcff", "\udcfe"), ("\udcff", "x")]

    def test_only_text(self) -> None:
        """Values that are not str raise TypeError, and surrogates that do not represent a byte raise ValueError."""
        with pytest.raises(TypeError, match="argument 'page' must be a str, got int"):
            a_request().args["page"] = 2  # type: ignore[assignment]
        with pytest.raises(ValueError, match="can't be sent"):
            a_request().args["a"] = "\ud800"
        assert "\ud800" not in a_request("/", [("a", "1")]).args


class TestStop:
    """Replies to the client."""

    def test_in_full(self) -> None:
        """Status, repeated headers and a binary body are sent."""
        reply = Reply(403, b"\0\xff", [("X-A", "1"), ("X-A", "2")])
        action = stop(a_request(call_id=3), reply)
        assert (action.status, list(action.headers), action.body) == (403, [("X-A", "1"), ("X-A", "2")], b"\0\xff")
        assert sent(a_request(call_id=3), reply).id == 3

    def test_framing_is_dropped(self) -> None:
        """Framing headers are never sent, in any case."""
        headers = [(name.title(), "1") for name in sorted(STOP_DROPS)]
        assert list(stop(a_request(), Reply(200, b"x", [*headers, ("x", "1")])).headers) == [("x", "1")]
        assert {"content-length", "transfer-encoding", "connection", "keep-alive", "te", "upgrade"} == STOP_DROPS

    def test_edits_are_dropped(self) -> None:
        """Edits are not sent if there is a Reply."""
        request = a_request()
        request.path = "/b"
        assert stop(request, Reply(401)).status == 401

    def test_headers_changed_afterwards(self) -> None:
        """Headers that are set on a reply later are checked."""
        reply = Reply()
        with pytest.raises(ValueError, match="the value of header 'x'"):
            reply.headers["x"] = "a\r\nb: c"
        assert list(stop(a_request(), reply).headers) == []


@pytest.mark.parametrize(
    "name", ["id", "method", "remote_addr", "phase", "route_key", "conf_token", "headers", "args", "response_headers", "context"]
)
def test_what_the_protocol_cannot_do(name: str) -> None:
    """Assigning an attribute that the protocol can't change raises an error with the reason."""
    with pytest.raises(UnsupportedEdit, match=rf"request\.{name} can't be assigned: .{{20,}}"):
        setattr(a_request(), name, "x")


def test_misspelt_attribute() -> None:
    """Assigning a misspelt attribute raises AttributeError."""
    with pytest.raises(AttributeError, match="paht"):
        a_request().paht = "/x"  # type: ignore[attr-defined]
