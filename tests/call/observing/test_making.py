# SPDX-License-Identifier: Apache-2.0
"""The record of a call says what was received, what each plugin did, what was requested, and what was sent."""

import hashlib
import logging
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from apisix import Plugin, Reply, Request, Response
from apisix.runner.records.redaction import digest
from apisix.testing import Client
from apisix.testing.replaying.recorded import RecordedRequest, sent_by

logger = logging.getLogger("author")


@dataclass
class Config:
    """A configuration with a secret that only its schema marks."""

    word: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})] = ""


class Edits(Plugin[Config]):
    """Edits everything that can be edited."""

    name = "edits"

    def on_request(self, request: Request) -> None:
        request.headers["x-new"] = request.var("request_id") or ""
        request.headers["authorization"] = "Bearer another-token"
        del request.headers["x-old"]
        request.args["n"] = "2"
        request.path = "/b"
        request.body = request.read() + b"!"
        request.response_headers["x-out"] = "1"
        logger.warning("the word is %s", self.config.word)


class Logs(Plugin[Any]):
    """Changes what it has logged."""

    name = "logs"

    def on_request(self, request: Request) -> None:
        items = [1]
        logger.warning("items %s", items)
        items.append(2)
        logger.warning("no arguments %")


class Stops(Plugin[Any]):
    """Ends the chain."""

    name = "stops"

    async def on_request(self, request: Request) -> Reply:
        return Reply(403, b"no", headers={"x-reason": "no"})


class Fails(Plugin[Any]):
    """Raises an error whose message contains what it should not."""

    name = "fails"
    on_error = "pass"

    def on_request(self, request: Request) -> None:
        raise ValueError(request.headers["x-api-key"])

    def on_response(self, response: Response) -> None:
        response.status = 404
        response.body = response.read().upper()


def test_what_a_request_plugin_did(client: Client) -> None:
    result = client.post(
        "/a?n=1",
        plugins=[(Edits, {"word": "correct-horse"}), Stops],
        headers={"x-old": "0", "authorization": "Bearer first-token"},
        body=b"body",
        vars={"request_id": "r1"},
    )
    record = result.record
    edits, stops = record.steps

    assert (record.outcome, record.request_id, record.phase, record.plugins) == ("stop", "r1", "ext-plugin-pre-req", ["edits", "stops"])
    assert record.request is not None
    assert (record.request.method, record.request.path, record.request.args) == ("POST", "/a", [("n", "1")])
    assert dict(record.request.headers)["authorization"] == f"Bearer {digest('first-token')}"
    assert record.request.body is not None
    assert record.request.body.text == "body"
    assert [(info.kind, info.name, info.value, info.plugin) for info in record.info] == [
        ("variable", "request_id", "r1", "edits"),
        ("request_body", None, None, "edits"),
    ]
    changes = {(edit.kind, edit.name): (edit.before, edit.after) for edit in edits.edits}
    assert changes == {
        ("header", "x-new"): ([], ["r1"]),
        ("header", "authorization"): ([f"Bearer {digest('first-token')}"], [f"Bearer {digest('another-token')}"]),
        ("header", "x-old"): (["0"], []),
        ("argument", "n"): (["1"], ["2"]),
        ("path", None): (["/a"], ["/b"]),
        ("response_header", "x-out"): ([], ["1"]),
        ("body", None): ([], []),
    }
    assert [(edit.body_before.text, edit.body_after.text) for edit in edits.edits if edit.body_before and edit.body_after] == [
        ("body", "body!")
    ]
    assert [(line.level, line.message) for line in edits.logs] == [("warning", f"the word is {digest('correct-horse')}")]
    assert (edits.runs, stops.runs, edits.stopped, stops.stopped) == ("suspendable", "coroutine", None, 403)
    assert record.reply is not None
    assert (record.reply.kind, record.reply.status, record.reply.headers) == ("stop", 403, [("x-reason", "no")])


def test_an_argument_without_a_value_differs_from_an_empty_one(client: Client) -> None:
    record = client.get("/a?flag&empty=&token&n=1", plugins=[Logs]).record

    assert record.request is not None
    assert record.request.args == [("flag", None), ("empty", ""), ("token", None), ("n", "1")]
    sent = sent_by(record)
    assert isinstance(sent, RecordedRequest)
    assert sent.args == (("flag", None), ("empty", ""), ("token", None), ("n", "1"))


def test_bytes_that_json_cannot_contain_are_printable(client: Client) -> None:
    record = client.get("/a?n=%ff", plugins=[Logs], headers={"x-new": "\udcff"}).record

    assert record.request is not None
    assert (record.request.args, dict(record.request.headers)["x-new"]) == ([("n", "\\xff")], "\\xff")


def test_a_log_line_has_the_text_of_when_it_was_logged(client: Client) -> None:
    (step,) = client.get("/a", plugins=[Logs]).record.steps

    assert [line.message for line in step.logs] == ["items [1]", "no arguments %"]


def test_a_plugin_that_fails(client: Client) -> None:
    result = client.get("/a", plugins=[Fails], headers={"x-api-key": "correct-horse"})
    record = result.record
    error = record.steps[0].error

    assert (record.outcome, record.failed, record.steps[0].edits) == ("continue", True, [])
    assert error is not None
    assert (error.kind, error.message) == ("ValueError", digest("correct-horse"))
    assert [frame.function for frame in error.frames] == ["on_request"]
    assert error.frames[0].is_author
    assert 'raise ValueError(request.headers["x-api-key"])' in dict(error.frames[0].source)[error.frames[0].line]


def test_what_a_response_plugin_did(client: Client) -> None:
    record = client.respond(200, {"x-up": "1"}, b"body", plugins=[Fails]).record

    assert record.response is not None
    assert (record.response.status, dict(record.response.headers)["x-up"]) == (200, "1")
    assert (record.phase, record.outcome) == ("ext-plugin-post-resp", "rewrite")
    assert [edit.phrase() for edit in record.steps[0].edits] == [
        "header content-length removed",
        "status 200 -> 404",
        "body 4 B -> 4 B",
    ]
    assert record.reply is not None
    assert record.reply.body is not None
    assert record.reply.body.text == "BODY"


def test_a_configuration_that_is_refused(client: Client) -> None:
    result = client.get("/a", plugins=[(Edits, {"word": 1})], raise_errors=False)
    record = result.record

    assert (record.outcome, record.steps, record.reply and record.reply.kind) == ("refused", [], "error")
    assert record.error is not None
    assert "word" in record.error.message


@pytest.mark.parametrize("secret", ["correct-horse", "first-token"])
def test_nothing_secret_is_in_a_record(client: Client, secret: str) -> None:
    result = client.post(
        "/a",
        plugins=[(Edits, {"word": "correct-horse"}), Fails],
        headers={"authorization": "Bearer first-token", "x-api-key": "correct-horse"},
        body='{"password": "first-token"}',
        raise_errors=False,
    )

    assert secret.encode() not in msgspec.json.encode(result.record)


class Late(Plugin[Any]):
    """Sets a secret after a body that contains it was read."""

    name = "late"

    def on_request(self, request: Request) -> None:
        request.body = request.read() + b"!"
        request.headers["x-upstream-token"] = "late-secret-4711"


@pytest.mark.parametrize("body", [b"\x00late-secret-4711", b"my late-secret-4711", "my late-secret-4711".encode("utf-16")])
def test_a_secret_that_is_found_after_a_body_that_contains_it(client: Client, body: bytes) -> None:
    """Neither a body that is not text has it, nor do the digests of bodies belong to texts with it."""
    record = client.post("/a", plugins=[Late], body=body).record
    codec = "utf-8" if body[0] != 0xFF else "utf-16-le"

    assert record.request is not None
    recorded = record.request.body
    assert recorded is not None
    expected = body.replace("late-secret-4711".encode(codec), digest("late-secret-4711").encode(codec))
    assert recorded.content() == expected
    assert recorded.sha256 == hashlib.sha256(expected).hexdigest()
    (edit,) = (edit for edit in record.steps[0].edits if edit.kind == "body")
    assert edit.body_after is not None
    assert edit.body_after.content() == expected + b"!"
