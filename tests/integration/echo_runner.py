# SPDX-License-Identifier: Apache-2.0
"""
The runner's processes with an echo instead of the plugins. The tests of the supervisor start them.

The answer to a line contains the worker's pid, the version of its "code", and the line. Some lines have further effects; see `_ACTIONS`.
The code is the file `plugin.py` of the directory in the settings. Its text is the version, and some words in it make it invalid.

Run it with `python -m tests.integration.echo_runner '{"socket_file": ...}' '{"supervisor.worker_pool.watchdog.PERIOD_S": 0.1}'`: with
settings, and with other values of the runner's constants, so that the test takes less time.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec

from apisix.runner.ipc.channel import Problem
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.supervisor import run
from apisix.runner.worker.service import Opened


class Echo(asyncio.Protocol):
    """One connection: it reads lines, and writes lines in the same order."""

    def __init__(self, service: "EchoConnections") -> None:
        self.service = service
        self.buffer = b""
        self.busy = False
        self.transport: asyncio.Transport | None = None

    @property
    def idle(self) -> bool:
        return not self.busy and not self.buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.service.open.add(self)

    def data_received(self, data: bytes) -> None:
        if self.service.on_activity is not None:
            on_activity, self.service.on_activity = self.service.on_activity, None
            on_activity()
        self.buffer += data
        while b"\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\n")
            word, _, argument = line.decode().partition(" ")
            if word in ("sleep", "spin", "block"):
                self.announce(line.decode())
            if word == "sleep":
                self.busy = True
                asyncio.get_running_loop().call_later(float(argument), self.answer, line.decode())
            else:
                if action := _ACTIONS.get(word):
                    action(argument)
                if word == "mark":
                    self.service.report_blocking(argument)
                self.answer(line.decode())
        if self.buffer == b"half":
            self.announce("half")

    def announce(self, line: str) -> None:
        """Send a message at once to show that work has begun. Data given to the transport is not sent before the event loop continues."""
        assert self.transport is not None
        os.write(self.transport.get_extra_info("socket").fileno(), f"{os.getpid()} {self.service.version} - {line} begun\n".encode())

    def answer(self, line: str) -> None:
        self.busy = False
        self.service.calls += 1
        if self.transport is not None:
            marks = ",".join(sorted(self.service.marks))
            self.transport.write(f"{os.getpid()} {self.service.version} {marks or '-'} {line}\n".encode())
        self.service.report_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.service.open.discard(self)
        self.service.report_idle()


class EchoConnections:
    """All connections of one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, version: str, report_blocking: Callable[[str], None]) -> None:
        self.loop = loop
        self.version = version
        self.report_blocking = report_blocking
        self.marks: set[str] = set()
        self.open: set[Echo] = set()
        self.calls = 0
        self.on_idle: Callable[[], None] | None = None
        self.on_activity: Callable[[], None] | None = None

    @property
    def connections(self) -> int:
        return len(self.open)

    @property
    def in_flight(self) -> int:
        return sum(echo.busy for echo in self.open)

    async def adopt(self, sock: socket.socket) -> None:
        await self.loop.connect_accepted_socket(lambda: Echo(self), sock)

    def release_idle(self, limit: int | None = None) -> list[socket.socket]:
        released = []
        for echo in [echo for echo in self.open if echo.idle][:limit]:
            transport = echo.transport
            assert transport is not None
            released.append(socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())))
            self.open.discard(echo)
            echo.transport = None
            transport.abort()
        return released

    async def close(self, timeout_s: float) -> None:
        deadline_s = self.loop.time() + timeout_s
        while self.in_flight and self.loop.time() < deadline_s:  # noqa: ASYNC110  # the wait is bounded, and several things end it
            await asyncio.sleep(0.005)
        for echo in list(self.open):
            if echo.transport is not None:
                echo.transport.close()
        await asyncio.sleep(0)

    def report_idle(self) -> None:
        if self.on_idle is not None:
            self.loop.call_soon(self.on_idle)


class EchoService:
    """The service of the tests. Satisfies `Service`."""

    def __init__(self, settings: Settings) -> None:
        self.file = Path(settings.plugins[0], "plugin.py") if settings.plugins else None

    def prepare(self, managed: bool) -> None:
        pass

    def open(self, loop: asyncio.AbstractEventLoop, report_blocking: Callable[[str], None]) -> Opened:
        code = self.file.read_text().strip() if self.file else "1"
        for word, action in _CODE_ACTIONS.items():
            if word in code:
                action()
        connections = EchoConnections(loop, code, report_blocking)
        lines = enumerate(code.splitlines(), 1)
        problems = tuple(Problem(f"plugin.py:{number}", f"plugin.py, line {number}: {line}") for number, line in lines if "broken" in line)
        return Opened(connections, problems, (str(self.file),) if self.file else (), connections.marks.add)


def _spin(argument: str) -> None:
    until_s = time.monotonic() + float(argument or "inf")
    while time.monotonic() < until_s:
        pass


def _raise() -> None:
    raise RuntimeError("the store can't be opened")


_ACTIONS: dict[str, Callable[[str], None]] = {
    "block": lambda argument: time.sleep(float(argument)),
    "spin": _spin,
    "exit": lambda argument: os._exit(int(argument)),
    "term": lambda argument: os.kill(os.getpid(), signal.SIGTERM),
    "eat": lambda argument: _EATEN.append(b"x" * int(argument)),
}
_EATEN: list[bytes] = []
_CODE_ACTIONS: dict[str, Callable[[], None]] = {"raises": _raise, "exits": lambda: os._exit(3), "hangs": lambda: time.sleep(60)}


if __name__ == "__main__":
    for constant, value in msgspec.json.decode(sys.argv[2], type=dict[str, float]).items():
        module, _, name = constant.rpartition(".")
        setattr(import_module(f"apisix.runner.{module}"), name, value)
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    sys.exit(run(settings, EchoService(settings)))
