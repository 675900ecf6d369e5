# SPDX-License-Identifier: Apache-2.0
"""
Write a test that reproduces a request with the test kit, and asserts what happened.

Secrets are digests in the test, in the request and in the configurations. Equal secrets have equal digests, so a comparison of secrets has
the same result. What a plugin computes of a secret, for example a signature, is different, so it is not asserted.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from apisix.gateway.inspector.configurations import ALL_SECRET
from apisix.gateway.inspector.flows import Flow, Kept, PhaseFlow
from apisix.gateway.inspector.plugin_check import PluginCheck
from apisix.gateway.inspector.server import ApiError, Inspector
from apisix.runner.http.phase import Phase
from apisix.runner.records.format import Body, CallRecord, Edit, Pairs
from apisix.runner.records.redaction import DIGEST, Redactor
from apisix.testing.sending.query import written_query

TESTS: Final = Path("tests")
"""The directory of saved tests."""
DIRECTORY: Final = Path("plugins")
"""The directory of plugins that the test kit loads without an option."""
_UNAVAILABLE: Final = 503

Configured = Sequence[tuple[str, str]]
"""The names of plugins, and their configurations without secrets."""


class NotReproducible(Exception):
    """No test can be written for a request. The message says why."""


class SavedTests:
    """
    Adds the call that saves a request as a test to the API of an inspector.

    Args:
        check: returns the schemas, which mark secrets.
        directories: returns the directories of plugins.
        run_again: runs a request through the plugins as they are now. Raises ApiError if that is not possible.
    """

    def __init__(
        self,
        inspector: Inspector,
        check: PluginCheck,
        directories: Callable[[], Sequence[Path]],
        run_again: Callable[[Kept], Awaitable[Kept]],
    ) -> None:
        self._inspector = inspector
        self._check = check
        self._directories = directories
        self._run_again = run_again
        inspector.add_call("POST", "/api/flows/{id}/test", self._save)

    async def _save(self, values: Mapping[str, str], body: Any) -> object:
        """
        Write the test, and return its path, the command that runs it, and whether the plugins have another result now.

        The test asserts the result of now, so it passes also if a plugin was edited since the request arrived.
        """
        kept = self._inspector.kept(values["id"])
        flags = "".join(f" --apisix-plugins {directory}" for directory in self._directories() if directory != DIRECTORY)
        try:
            source = await self._source(kept)
            current = await self._current_source(kept, source)
            path = save(TESTS, kept.flow, current, f"pytest{flags}")
        except NotReproducible as reason:
            raise ApiError(409, str(reason)) from None
        except OSError as error:
            raise ApiError(500, f"{error.filename} can't be written: {error.strerror}") from error
        return {"path": str(path), "command": f"pytest{flags} {path}", "differs": current != source}

    async def _current_source(self, kept: Kept, source: str) -> str:
        """Return the source of a test that asserts the result of now; `source` if that is not known."""
        try:
            return await self._source(await self._run_again(kept))
        except (ApiError, NotReproducible):
            return source

    async def _source(self, kept: Kept) -> str:
        """Return the source of a test without secrets."""
        schemas = await self._check.schemas()
        redactor = Redactor()
        redactor.learn({secret: digest for digest, secret in kept.secrets.items()})
        chains = []
        for phase in kept.report.phases:
            pairs = zip(phase.plugins, phase.conf, strict=True)
            configured = [(name, redactor.configuration(value, schemas.get(name, ALL_SECRET))) for name, value in pairs]
            chains.append((configured, phase.allow_degradation))
        # Secrets that were found in one place are replaced everywhere.
        chains = msgspec.json.decode(redactor.line(msgspec.json.encode(chains)), type=list[tuple[list[tuple[str, str]], bool]])
        flow = msgspec.json.decode(redactor.line(msgspec.json.encode(kept.flow)), type=Flow)
        return source_of(flow, chains)


def source_of(flow: Flow, chains: Sequence[tuple[Configured, bool]]) -> str:
    """
    Return the source of a test, without its first line.

    Args:
        flow: the request.
        chains: for each phase, the plugins, and whether the request continues after an error.
    Raises: NotReproducible: no plugin of the runner ran, or the runner has not reported what happened.
    """
    if not flow.phases:
        raise NotReproducible("no plugin of the runner ran for this request, so there is nothing to test")
    lines = []
    if DIGEST.search(str(chains) + str(flow.request)):
        lines.append(
            "# Secrets are replaced by digests, which are equal if the secrets are equal. What plugins compute of them is different."
        )
    suffixes = ["_" + _identifier(phase.phase.removeprefix("ext-plugin-")) for phase in flow.phases]
    names = [_name(flow) + (suffix if len(suffixes) > 1 else "") for suffix in suffixes]
    for name, phase, (configured, allows) in zip(names, flow.phases, chains, strict=True):
        lines += ["", "", f"def test_{name}(client):", *(f"    {line}" if line else "" for line in _test(flow, phase, configured, allows))]
    return "\n".join(lines) + "\n"


def save(directory: Path, flow: Flow, source: str, command: str) -> Path:
    """Write a test into a file that does not exist yet, and return its path. Args: command: runs a test if its path follows."""
    directory.mkdir(exist_ok=True)
    name = f"test_{_name(flow)}"
    number = 1
    while True:
        path = directory / (f"{name}.py" if number == 1 else f"{name}_{number}.py")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(f"# Saved by the inspector of `apisix-runner dev`. Run it with: {command} {path}\n{source}")
            return path
        except FileExistsError:
            number += 1


def _name(flow: Flow) -> str:
    return _identifier(f"{flow.method} {flow.target.partition('?')[0]}")


def _identifier(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60] or "request"


def _test(flow: Flow, phase: PhaseFlow, configured: Configured, allows: bool) -> Iterator[str]:
    record = phase.record
    if record is None and phase.refusal is None:
        raise NotReproducible(f"the runner has not reported what happened in {phase.phase}, so it can't be asserted")
    call = _call(flow, phase.phase, record, configured, allows)
    yield from call
    yield ""
    given = "\n".join(call)
    for assertion in _assertions(record, phase.phase, allows):
        unknown = [digest for digest in DIGEST.findall(assertion) if digest not in given]
        yield f"# not asserted, because it was computed of a secret: {assertion}" if unknown else assertion


def _call(flow: Flow, phase: str, record: CallRecord | None, configured: Configured, allows: bool) -> list[str]:
    is_response = phase == Phase.POST_RESP
    request = None if record is None else record.request
    body = None if record is None else _body_read(record, is_response)
    arguments: dict[str, object] = {}
    if is_response:
        first = [str(200 if record is None or record.response is None else record.response.status)]
        headers = [] if record is None or record.response is None else record.response.headers
        arguments |= {"method": flow.method, "url": flow.target, "request_headers": flow.request.headers}
    else:
        url = flow.target
        if request is not None:
            url = quote(request.path) + (f"?{written_query(request.args)}" if request.args else "")
        first = [repr(flow.method if request is None else request.method), repr(url)]
        headers = flow.request.headers if request is None else request.headers
        arguments |= {"phase": phase, "remote_addr": flow.remote_addr if request is None else request.remote_addr}
    if body is not None and body.truncated:
        kept = len(body.content())
        raise NotReproducible(f"only the first {kept} bytes of the body were recorded, so no test can send the whole body to {phase}")
    if body is not None and body.content():
        headers = [(name, value) for name, value in headers if name.lower() not in ("content-length", "transfer-encoding")]
        arguments["body"] = body.content() if body.text is None else body.text
    arguments["headers"] = [tuple(pair) for pair in headers]
    if record is not None and (variables := {info.name: info.value for info in record.info if info.kind == "variable"}):
        arguments["vars"] = variables
    if record is not None and record.metadata is not None and record.metadata.read is not None and not record.metadata.read.truncated:
        arguments["metadata"] = json.loads(record.metadata.read.content())
    arguments["plugins"] = [(name, _parsed(value)) for name, value in configured]
    if allows:
        arguments["allow_degradation"] = True
    arguments["raise_errors"] = False
    lines = [f"    {argument}," for argument in first]
    lines += [line for name, value in arguments.items() for line in _argument(name, value)]
    return [f"result = client.{'respond' if is_response else 'request'}(", *lines, ")"]


def _argument(name: str, value: object) -> list[str]:
    if isinstance(value, list) and value:
        return [f"    {name}=[", *(f"        {item!r}," for item in value), "    ],"]
    return [f"    {name}={value!r},"]


def _body_read(record: CallRecord, is_response: bool) -> Body | None:
    """Return the body that plugins have read. None if they have read none."""
    message = record.response if is_response else record.request
    kind = "response_body" if is_response else "request_body"
    if message is not None and message.body is not None:
        return message.body
    return next((info.body for info in record.info if info.kind == kind), None)


def _assertions(record: CallRecord | None, phase: str, allows: bool) -> Iterator[str]:
    if phase == Phase.POST_RESP:
        yield from _of_response(record, allows)
    elif record is None or record.outcome == "refused":
        yield from ["assert not result.stopped"] if allows else ["assert result.stopped", f"assert result.reply.status == {_UNAVAILABLE}"]
        yield from _of_error(record)
    elif record.outcome == "stop":
        yield "assert result.stopped"
        yield from _of_stop(record)
    else:
        yield "assert not result.stopped"
        yield from _of_edits(record, "result.upstream")


def _of_error(record: CallRecord | None) -> Iterator[str]:
    for index, step in enumerate(() if record is None else record.steps):
        if step.error is not None:
            first_line = next(iter(step.error.message.splitlines()), "")
            yield f"assert result.effects[{index}].error is not None  # {step.error.kind}: {first_line}"


def _of_stop(record: CallRecord) -> Iterator[str]:
    reply = record.reply
    if reply is None:
        return
    yield f"assert result.reply.status == {reply.status or 200}"
    yield from _of_headers("result.reply.headers", reply.headers)
    yield from _of_body("result.reply", reply.body)


def _of_headers(place: str, headers: Pairs) -> Iterator[str]:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    for name, each in values.items():
        if any(each):
            yield f"assert {place}[{name!r}] == {each[0]!r}" if len(each) == 1 else f"assert {place}.getall({name!r}) == {each!r}"


def _of_body(place: str, body: Body | None) -> Iterator[str]:
    if body is None or not body.size:
        return
    if body.truncated:
        yield f"assert len({place}.body) == {body.size}"
    elif body.text is not None:
        yield f"assert {place}.text == {body.text!r}"
    else:
        yield f"assert {place}.body == {body.content()!r}"


def _of_edits(record: CallRecord, place: str) -> Iterator[str]:
    """Yield the assertions about the last edit of each header, argument, path and body."""
    edits: dict[tuple[str, str], Edit] = {}
    for step in record.steps:
        for edit in step.edits:
            if not edit.for_later_plugins_only and edit.kind != "metadata":
                edits[edit.kind, (edit.name or "").lower() if edit.kind != "argument" else edit.name or ""] = edit
    for (kind, name), edit in edits.items():
        if kind in ("path", "status"):
            yield f"assert {place}.{kind} == {edit.after[0] if kind == 'status' else repr(edit.after[0])}"
        elif kind == "body":
            yield from _of_body(place, edit.body_after)
        else:
            values = {"header": f"{place}.headers", "argument": f"{place}.args", "response_header": "result.client_headers"}[kind]
            after = [value for value in edit.after if value or kind == "argument"]
            yield f"assert {values}.getall({name!r}) == {after!r}" if after else f"assert {name!r} not in {values}"


def _of_response(record: CallRecord | None, allows: bool) -> Iterator[str]:
    if record is None or record.outcome == "refused":
        if not allows:
            yield f"assert result.response.status == {_UNAVAILABLE}"
        yield from _of_error(record)
        return
    yield from _of_edits(record, "result.response")
    if not any(edit.kind != "metadata" for step in record.steps for edit in step.edits) and record.response is not None:
        yield f"assert result.response.status == {record.response.status}"


def _parsed(value: str) -> Any:
    """Return a configuration as a Python value if that becomes the same JSON, for tests that are easier to read."""
    try:
        parsed = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
    return parsed if isinstance(parsed, Mapping) else value
