# SPDX-License-Identifier: Apache-2.0
"""The result of a call."""

import pytest
from multidict import CIMultiDict, MultiDict

from apisix import Plugin, Reply, Request, Response
from apisix.runner.errors import BodyError
from apisix.testing import Client, ClientResponse, Result, UpstreamRequest


class Guard(Plugin):
    """Stop requests without a key."""

    def on_request(self, request: Request) -> Reply | None:
        request.headers["x-seen"] = "yes"
        return None if "x-key" in request.headers else Reply(401, "who are you?")

    def on_response(self, response: Response) -> None:
        response.status = 201


class Broken(Plugin):
    """Fail."""

    def on_request(self, request: Request) -> None:
        raise ValueError("this is wrong")


def message(result: Result, name: str) -> str:
    """Return the message of the error that is raised if a test reads a missing part."""
    with pytest.raises(AssertionError) as raised:
        getattr(result, name)
    return str(raised.value)


def test_text_and_json() -> None:
    """`text` uses the charset of the body. `json` ignores the type of the body."""
    latin = CIMultiDict({"Content-Type": "text/plain; charset=latin-1"})

    assert ClientResponse(200, latin, b"\xfc").text == "ü"
    assert UpstreamRequest("GET", "/", MultiDict(), "", CIMultiDict(), "ü".encode()).text == "ü"
    assert ClientResponse(200, body=b'{"a": 1}').json() == {"a": 1}
    with pytest.raises(BodyError):
        ClientResponse(200, body=b"{").json()


def test_frozen() -> None:
    """A result can't be changed by mistake, as in an assert with one `=`."""
    with pytest.raises(AttributeError):
        Result().reply = ClientResponse(200)  # type: ignore[misc]


def test_empty() -> None:
    """An empty result has no parts."""
    result = Result()

    assert (result.stopped, result.error) == (False, None)
    assert (result.asked, result.effects, result.client_headers) == ((), (), CIMultiDict())
    assert message(result, "upstream").startswith("there is no result.upstream: this result is empty")


def test_reply_of_a_request_that_was_not_stopped(client: Client) -> None:
    """The message contains what the upstream got, and what each plugin did."""
    result = client.post("/users?page=2", headers={"x-key": "k"}, body="hello", plugins=[Guard])

    assert not result.stopped
    assert message(result, "reply").splitlines() == [
        "there is no result.reply: the request was not stopped, and the upstream got POST /users?page=2, the headers "
        "host: 127.0.0.1, content-length: 5, x-key: k, x-seen: yes and the body b'hello'",
        "  guard: header x-seen added",
        "(result.stopped is true if the request was stopped)",
    ]


def test_upstream_of_a_request_that_was_stopped(client: Client) -> None:
    """The message contains what the client got instead, and which plugin replied."""
    result = client.get("/users", plugins=[Guard])

    assert result.stopped
    assert message(result, "upstream").splitlines() == [
        "there is no result.upstream: the request was stopped, and did not reach the upstream; "
        "the client gets 401 and the body b'who are you?'",
        "  guard: header x-seen added, stopped the request with 401",
        "(result.stopped is true if the request was stopped)",
    ]


def test_upstream_of_a_call_that_failed(client: Client) -> None:
    """The message contains the error."""
    shown = message(client.get("/", plugins=[Broken], raise_errors=False), "upstream")

    assert "the client gets 503 and no body, because the call failed with ValueError: this is wrong\n" in shown
    assert "  broken: failed: ValueError: this is wrong\n" in shown


def test_the_other_phase(client: Client) -> None:
    """In the response phase, there is no reply and no upstream. In a request phase, there is no response."""
    response = client.respond(200, body="x" * 300, plugins=[Guard])
    request = client.get("/", plugins=[Guard])

    shown = f"the call was a response, so use result.response; the client gets 201 and a body of 300 bytes that begins with {b'x' * 200!r}"
    assert message(response, "reply").splitlines()[0] == f"there is no result.reply: {shown}"
    assert message(response, "upstream").splitlines()[0] == f"there is no result.upstream: {shown}"
    assert message(request, "response").splitlines()[0].startswith("there is no result.response: the request was stopped")
    assert not response.stopped
