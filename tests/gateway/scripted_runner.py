# SPDX-License-Identifier: Apache-2.0
"""A runner that follows the `runner_does` of a scenario, and records what it receives."""

import asyncio
import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from apisix.runner.errors import ErrCode
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import (
    ErrResp,
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Info,
    Message,
    PrepareConfReq,
    PrepareConfResp,
    ReqBody,
    RespBody,
    Rewrite,
    Stop,
    Var,
)

Script = dict[str, Any]


class ScriptedRunner:
    """
    Serves a socket in the role RUNNER. The configuration behind the token of a call is its script.

    `seen` contains one entry for each message, in the form of `runner_sees`. `connections` is the number of connections opened so far.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.connections = 0
        self.open_connections = 0
        self.prepare_gate: asyncio.Event | None = None
        self.closes_after_each_reply = False
        self._scripts: dict[int, Script] = {}
        self._forgotten: set[str] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, path: str) -> None:
        """Listen on a socket."""
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        for _ in range(4):  # a connection that was just accepted has no task yet, and would stay open
            await asyncio.sleep(0)
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open_connections += 1
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await _ScriptedConnection(self, reader, writer).run()
        finally:
            self.open_connections -= 1
            writer.close()

    def prepare(self, message: PrepareConfReq) -> int:
        """Record a configuration and return its token."""
        self.seen.append({"rpc": "prepare", "conf": [list(entry) for entry in message.conf], "key": message.key})
        token = len(self._scripts) + 100
        # Anything that is not a script (the value in an article, for example) lets everything pass.
        value = message.conf[0][1] if message.conf else "{}"
        with suppress(ValueError):
            self._scripts[token] = json.loads(value)
        self._scripts.setdefault(token, {})
        return token

    def script(self, token: int) -> Script:
        """Return the actions for a call."""
        return self._scripts[token]

    def forgets(self, script: Script) -> bool:
        """True if the reply to this call is CONF_TOKEN_NOT_FOUND."""
        if script.get("forget") == "once":
            key = json.dumps(script)
            first = key not in self._forgotten
            self._forgotten.add(key)
            return first
        return script.get("forget") == "always"


class _ScriptedConnection:
    def __init__(self, runner: ScriptedRunner, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._runner = runner
        self._reader = reader
        self._writer = writer
        self._wire = Connection(Role.RUNNER)

    async def run(self) -> None:
        while (message := await self._receive()) is not None:
            if isinstance(message, PrepareConfReq):
                if self._runner.prepare_gate is not None:
                    await self._runner.prepare_gate.wait()
                self._send(PrepareConfResp(self._runner.prepare(message)))
                if self._runner.closes_after_each_reply:
                    return
                continue
            assert isinstance(message, HTTPReqCallReq | HTTPRespCallReq)
            script = self._runner.script(message.conf_token)
            record = _record(message)
            self._runner.seen.append(record)
            if self._runner.forgets(script):
                record["answer"] = "CONF_TOKEN_NOT_FOUND"
                self._send(ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND))
                continue
            record["asked"] = await self._request_info(script.get("ask", []))
            if "close" in script:
                return
            if "raw" in script:
                self._writer.write(bytes.fromhex(script["raw"]))
                continue
            if "silent" in script:
                await self._receive()
                return
            self._send(_reply(message, script))
            if self._runner.closes_after_each_reply:
                return

    async def _request_info(self, wanted: Sequence[tuple[str, str | None]]) -> list[list[Any]]:
        asked = []
        for kind, name in wanted:
            self._send(ExtraInfoReq(_info(kind, name)))
            answer = await self._receive()
            assert isinstance(answer, ExtraInfoResp)
            result = answer.result
            asked.append([[kind, name], None if result is None else result.decode("latin-1"), None if result is None else len(result)])
        return asked

    def _send(self, message: Message) -> None:
        self._writer.write(self._wire.send(message))

    async def _receive(self) -> Message | None:
        while (message := self._wire.next_event()) is NEED_DATA:
            data = await self._reader.read(65536)
            if not data:
                return None
            self._wire.receive_data(data)
        return message


def _record(message: HTTPReqCallReq | HTTPRespCallReq) -> dict[str, Any]:
    headers = [list(entry) for entry in message.headers]
    if isinstance(message, HTTPRespCallReq):
        return {"rpc": "resp_call", "id": message.id, "status": message.status, "headers": headers}
    args = [list(entry) for entry in message.args]
    return {"rpc": "call", "id": message.id, "method": message.method, "path": message.path, "args": args, "headers": headers}


def _info(kind: str, name: str | None) -> Info:
    if kind == "var":
        return Var(name or "")
    return RespBody() if kind == "respbody" else ReqBody()


def _reply(message: HTTPReqCallReq | HTTPRespCallReq, script: Script) -> Message:
    if "error" in script:
        return ErrResp(ErrCode(script["error"]))
    if isinstance(message, HTTPRespCallReq):
        return HTTPRespCallResp(message.id, **_arguments(script.get("resp", {})))
    if "stop" in script:
        return HTTPReqCallResp(message.id, Stop(**_arguments(script["stop"])))
    if "rewrite" in script:
        return HTTPReqCallResp(message.id, Rewrite(**_arguments(script["rewrite"])))
    return HTTPReqCallResp(message.id)


def _arguments(part: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        name: [tuple(entry) for entry in value] if isinstance(value, list) else value for name, value in part.items()
    }
    body = arguments.get("body")
    if isinstance(body, dict):
        arguments["body"] = base64.b64decode(body["b64"])
    elif body is not None:
        arguments["body"] = body.encode()
    return arguments
