# SPDX-License-Identifier: Apache-2.0
"""The record of a call has the metadata of the client's request: what the call has found, what each plugin changed, and what it wrote."""

import ast
import json
from typing import Any

import pytest

from apisix import Plugin, Reply, Request, Response
from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.records.format import Body, CallRecord
from apisix.runner.records.redaction import digest
from apisix.testing import Client, Result

SECRET = "correct-horse"  # noqa: S105  # of a test


class Writes(Plugin[dict[str, Any]]):
    """Stores what its configuration contains, and logs nothing."""

    name = "writes"

    def on_request(self, request: Request) -> None:
        request.metadata().update(self.config)


class Changes(Plugin[Any]):
    """Changes each value in another way, one of them in place."""

    name = "changes"

    async def on_request(self, request: Request) -> None:
        metadata = await request.ametadata()
        metadata["tags"].append("b")
        metadata["count"] += 1
        del metadata["user"]
        metadata["new"] = None

    async def on_response(self, response: Response) -> None:
        response.headers["x-count"] = str((await response.ametadata())["count"])


class Reads(Plugin[Any]):
    """Reads only."""

    name = "reads"

    def on_request(self, request: Request) -> None:
        request.metadata().get("count")


class Stops(Plugin[Any]):
    """Stores something, and ends the chain."""

    name = "stops"

    def on_request(self, request: Request) -> Reply:
        request.metadata()["why"] = "no"
        return Reply(403, "no")


class Fails(Plugin[Any]):
    """Stores something, and fails."""

    name = "fails"

    def on_request(self, request: Request) -> None:
        request.metadata()["why"] = "no"
        raise ValueError("no")


CONFIG = {"tags": ["a"], "count": 1, "user": "jack"}


def content(body: Body | None) -> Any:
    """Return the JSON of a body."""
    return None if body is None else json.loads(body.content())


def shown(record: CallRecord) -> tuple[Any, Any, bool]:
    """Return the metadata of a record."""
    assert record.metadata is not None
    return content(record.metadata.read), content(record.metadata.written), record.metadata.removed


def edits(record: CallRecord) -> list[dict[str, tuple[list[str], list[str]]]]:
    """Return what each plugin has changed in the metadata."""
    return [{edit.name or "": (edit.before, edit.after) for edit in step.edits if edit.kind == "metadata"} for step in record.steps]


def test_a_call_that_writes(client: Client) -> None:
    record = client.get("/", plugins=[(Writes, CONFIG), Changes, Reads]).record

    assert shown(record) == (None, {"tags": ["a", "b"], "count": 2, "new": None}, False)
    assert edits(record) == [
        {"tags": ([], ['["a"]']), "count": ([], ["1"]), "user": ([], ['"jack"'])},
        {"tags": (['["a"]'], ['["a","b"]']), "count": (["1"], ["2"]), "user": (['"jack"'], []), "new": ([], ["null"])},
        {},
    ]
    assert [edit.phrase() for edit in record.steps[1].edits] == [
        "metadata tags changed",
        "metadata count changed",
        "metadata user removed",
        "metadata new added",
    ]


class Keeps(Plugin[str]):
    """Stores a value, and shows it in the response phase."""

    name = "keeps"

    def on_request(self, request: Request) -> None:
        request.metadata()["value"] = ast.literal_eval(self.config)

    async def on_response(self, response: Response) -> None:
        response.headers["x-value"] = ascii((await response.ametadata())["value"])


@pytest.mark.parametrize(
    ("value", "text"), [(r"'bad\udcff'", '"bad\ufffd"'), (r"'half \ud83d'", '"half \ufffd"'), ("10000000000000000000000", "1" + 22 * "0")]
)
def test_values_that_not_all_json_can_have(client: Client, value: str, text: str) -> None:
    """A header that is not UTF-8 becomes a str that no record can contain, and integers can be large. The plugins get both as they are."""
    first = client.get("/", plugins=[(Keeps, value)])
    last = client.respond(plugins=[(Keeps, value)], of=first)

    assert edits(first.record) == [{"value": ([], [text])}]
    assert last.response.headers["x-value"] == value


def test_later_phases(client: Client) -> None:
    """A phase that only reads writes nothing, and the response phase removes the metadata."""
    first = client.get("/", plugins=[(Writes, CONFIG)])
    second = client.get("/", plugins=[Reads], phase="ext-plugin-post-req", of=first)
    third = client.respond(200, plugins=[Changes], of=second)

    assert [shown(result.record) for result in (first, second, third)] == [
        (None, CONFIG, False),
        (CONFIG, None, False),
        (CONFIG, None, True),
    ]


@pytest.mark.parametrize(("plugin", "removed"), [(Stops, True), (Fails, False)])
def test_calls_that_write_nothing(client: Client, plugin: type, removed: bool) -> None:
    """One that ends the request removes what it has found, and one that is refused changes nothing."""
    first = client.get("/", plugins=[(Writes, {"count": 1})])
    record = client.get("/", plugins=[plugin], phase="ext-plugin-post-req", of=first, raise_errors=False).record

    assert shown(record) == ({"count": 1}, None, removed)


def test_a_call_without_metadata(client: Client) -> None:
    class Other(Plugin[Any]):
        name = "other"

        def on_request(self, request: Request) -> None:
            request.headers["x-a"] = request.var("request_id") or ""

    assert client.get("/", plugins=[Other]).record.metadata is None


def test_secrets(client: Client) -> None:
    """A value whose name means that it is secret is replaced in all places."""
    config = {"token": SECRET, "user": {"password": SECRET}, "note": f"the word is {SECRET}"}
    first = client.get("/", plugins=[(Writes, config)])
    second = client.get("/", plugins=[Reads], phase="ext-plugin-post-req", of=first)
    redacted = {"token": digest(SECRET), "user": {"password": digest(SECRET)}, "note": f"the word is {digest(SECRET)}"}

    assert shown(first.record)[1] == redacted
    assert shown(second.record)[0] == redacted
    assert edits(first.record) == [{name: ([], [json.dumps(value, separators=(",", ":"))]) for name, value in redacted.items()}]


def test_the_limit(client: Client) -> None:
    """Long metadata is cut, as bodies are."""
    result = client.get("/", plugins=[(Writes, {"long": "x" * 100})])
    assert result._trace is not None
    record = RecordMaker(body_limit=20).make(result._trace)
    assert record.metadata is not None
    assert record.metadata.written is not None

    assert (record.metadata.written.size, record.metadata.written.text) == (111, '{"long":"xxxxxxxxxxx')
    assert record.metadata.written.truncated
    assert edits(record) == [{"long": ([], ['"xxxxxxxxxxxxxxxxxxx...'])}]


def test_what_is_not_json_any_more(client: Client) -> None:
    """A value that was changed in place to something else is in no record. The call is refused."""

    class Breaks(Plugin[Any]):
        name = "breaks"

        def on_request(self, request: Request) -> None:
            metadata = request.metadata()
            metadata["tags"] = []
            metadata["tags"].append(object())

    result: Result = client.get("/", plugins=[Breaks], raise_errors=False)

    assert (shown(result.record), edits(result.record), result.record.outcome) == ((None, None, False), [{}], "refused")
