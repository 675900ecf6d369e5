# SPDX-License-Identifier: Apache-2.0
"""
Compare what the test kit computes from the runner's replies with the development gateway.

The development gateway was compared with recordings of a real gateway. The test kit has a smaller implementation of the same rules.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from apisix.gateway.http import uris
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.edits import PROTECTED_RESPONSE_HEADERS, apply_rewrite, apply_stop
from apisix.runner.errors import ErrCode
from apisix.runner.http.header_rules import REWRITE_IGNORES
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, HTTPRespCallResp, Rewrite, Stop
from apisix.testing.results.gateway_view import client_headers_of, response_of, result_of, stopped_by, upstream_of
from apisix.testing.results.result import ClientResponse
from apisix.testing.running.engine import Outcome
from apisix.testing.sending.messages import SentRequest, make_request, make_response
from tests.gateway.scenarios import SCENARIOS

NAMES = st.sampled_from(["a", "b", "x-c", "Content-Type", "host"])
ARG_NAMES = st.sampled_from(["a", "b", "c d", "ü"])
VALUES = st.sampled_from(["", "1", "x y", "&=%", "ä", "\udcff"])
PATHS = st.sampled_from(["/", "/a b", "/ü/%41", "/a?b"])
ARGS = st.lists(st.tuples(ARG_NAMES, VALUES | st.none()), max_size=6)
EDITS = st.lists(st.tuples(NAMES, VALUES | st.none()), max_size=6)
URLS = st.builds(lambda path, args: f"{uris.escape_path(path)}?{uris.build_query({n: [v] for n, v in args})}", PATHS, ARGS)


def context_of(sent: SentRequest) -> RequestContext:
    """Return the same request in the form of the development gateway."""
    return RequestContext(sent.method, sent.target, CIMultiDict(sent.headers), sent.body, sent.remote_addr, 4711, 9080)


@given(
    url=URLS,
    headers=st.dictionaries(NAMES.map(str.lower), VALUES),
    rewrite=st.builds(Rewrite, path=st.none() | PATHS, headers=EDITS, args=ARGS, resp_headers=EDITS, body=st.sampled_from([b"", b"new"])),
)
def test_rewrite(url: str, headers: dict[str, str], rewrite: Rewrite) -> None:
    """After any Rewrite, the upstream gets the same path, arguments, headers and body, and the client the same headers."""
    sent = make_request("POST", url, headers=headers, body="old")
    context = context_of(sent)
    apply_rewrite(context, rewrite, frozenset(), uris.parse_args(context.args or ""))

    upstream = upstream_of(sent, rewrite)
    raw_path, _, query = context.upstream_target().partition("?")
    assert (upstream.path, uris.parse_args(upstream.query)) == (uris.normalise_path(raw_path), uris.parse_args(query))
    # A new Host changes only what is sent to the upstream.
    sent_headers = context.headers.copy()
    sent_headers.popall("host", None)
    shown_headers = upstream.headers.copy()
    assert (context.upstream_host, sent_headers) == (shown_headers.pop("host", ""), shown_headers)
    assert upstream.body == context.body
    assert client_headers_of(rewrite) == context.response_headers


@given(status=st.sampled_from([0, 200, 401]), headers=EDITS)
def test_stop(status: int, headers: Any) -> None:
    """After any Stop, the client gets the same status, body and headers, except for the Content-Type, which nginx adds or completes."""
    stop = Stop(status, headers, b"body")
    answer = apply_stop(context_of(make_request("GET", "/")), stop)

    shown = stopped_by(HTTPReqCallResp(0, stop), allow_degradation=False)
    assert shown is not None
    assert (shown.status, shown.body) == (answer.status, answer.body)
    for view in (answer.headers, shown.headers):
        view.popall("content-type", None)
    assert sorted((name, value) for name, value in shown.headers.items()) == sorted(answer.headers.items())


def test_error_frames() -> None:
    """After an error, the client gets 503. With degradation, a request continues, and a response keeps its body without the headers."""
    error = ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    response = make_response(make_request("GET", "/"), 201, {"x-up": "1"}, "body")

    assert stopped_by(error, allow_degradation=False) == ClientResponse(503)
    assert stopped_by(error, allow_degradation=True) is None
    assert response_of(response, error, allow_degradation=False) == ClientResponse(503, CIMultiDict(), b"body")
    assert response_of(response, error, allow_degradation=True) == ClientResponse(201, CIMultiDict(), b"body")


@pytest.mark.parametrize("allow_degradation", [False, True])
def test_error_without_a_body(allow_degradation: bool) -> None:
    """After an error on a response without a body, the request is sent again, and the client gets all of the second response."""
    sent = make_response(make_request("GET", "/"), 204, {"x-up": "1"})
    result = result_of(sent, Outcome(ErrResp(ErrCode.SERVICE_UNAVAILABLE), (), None, None), allow_degradation=allow_degradation)
    assert result.upstream_asked_twice
    assert result.response == ClientResponse(204, CIMultiDict({"x-up": "1"}))


@pytest.mark.parametrize("name", ["resp-204", "resp-304", "resp-head"])
def test_second_request(name: str) -> None:
    """Without a body, the request is sent twice, and the client gets what was recorded on a real gateway."""
    (scenario,) = [scenario for scenario in SCENARIOS if name == scenario["scenario"]]
    shown = next(call for call in scenario["runner_sees"] if call["rpc"] == "resp_call")
    sent = make_response(make_request(scenario["request"]["method"], "/"), shown["status"], shown["headers"])
    result = result_of(sent, Outcome(HTTPRespCallResp(0), (), None, None), allow_degradation=False)

    assert result.upstream_asked_twice
    assert result.response.status == scenario["client_sees"]["status"]
    expected = sorted((header.lower(), value) for header, value in scenario["client_sees"]["headers"])
    assert sorted((header.lower(), value) for header, value in result.response.headers.items()) == expected


def test_no_second_request() -> None:
    """The request is not sent again if a plugin sets a body or if the status is 200, even after an error."""
    request = make_request("GET", "/")
    for sent, reply in (
        (make_response(request, 204), HTTPRespCallResp(0, body=b"x")),
        (make_response(request, 200), ErrResp(ErrCode.SERVICE_UNAVAILABLE)),
        (make_response(request, 200), HTTPRespCallResp(0)),
    ):
        result = result_of(sent, Outcome(reply, (), None, None), allow_degradation=False)
        assert not result.upstream_asked_twice


def test_reply_without_headers() -> None:
    """Without headers in the reply, those of the upstream are kept, except for ten. Otherwise, the client gets only those of the reply."""
    response = make_response(make_request("GET", "/"), 201, {"X-Up": "1", "Content-Type": "text/x"}, "body")

    assert response_of(response, HTTPRespCallResp(0), allow_degradation=False) == ClientResponse(201, CIMultiDict({"X-Up": "1"}), b"body")
    reply = HTTPRespCallResp(0, 299, [("X-New", "1")], b"new")
    assert response_of(response, reply, allow_degradation=False) == ClientResponse(299, CIMultiDict({"x-new": "1"}), b"new")


def test_ignored_names() -> None:
    """The test kit and the development gateway have the same names."""
    assert REWRITE_IGNORES == PROTECTED_RESPONSE_HEADERS
