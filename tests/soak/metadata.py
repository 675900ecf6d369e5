# SPDX-License-Identifier: Apache-2.0
"""Metadata of many requests through many workers, while these are replaced: none is lost, and none is that of another request."""

import asyncio
import os
import random
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from apisix.runner.errors import ErrCode
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq, ExtraInfoResp, HTTPReqCallReq, HTTPRespCallReq, PrepareConfReq
from apisix.runner.worker.shared_store import memory_directory
from tests.peer import POST_REQ, POST_RESP, PRE_REQ
from tests.runner_process import RunnerProcess, running
from tests.soak.stage import children

PLUGINS: Final = Path(__file__).parent / "plugins"
CONNECTIONS: Final = 24
CONCURRENT: Final = 12
"""How many requests are in progress at the same time."""
READ_TIMEOUT_S: Final = 60.0
PADDING: Final = 1000
"""The size of the metadata of a request of the flood, in bytes."""


class Handed(msgspec.Struct):
    """
    What became of the requests.

    Attributes:
        requests: how many requests went through all phases.
        carried: how many response phases got the metadata of their own request.
        lost: how many got none.
        mixed: how many got that of another request.
        moved: how many had at least two workers.
        failures: how many calls failed, by reason.
        reloads: how many times SIGHUP was sent, which replaces all workers.
    """

    requests: int = 0
    carried: int = 0
    lost: int = 0
    mixed: int = 0
    moved: int = 0
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    reloads: int = 0

    @property
    def is_clean(self) -> bool:
        """True if each request had its own metadata."""
        return self.carried == self.requests and not self.failures


class _Refused(Exception):
    """Raised if the reply of the runner is an error."""


class _Line:
    """One connection of the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._connection = Connection(Role.GATEWAY)

    async def call(self, message: Any, request_id: str = "") -> Any:
        """Send a message and return its reply. Each variable has the value of `request_id`."""
        async with asyncio.timeout(READ_TIMEOUT_S):
            self.writer.write(self._connection.send(message))
            while True:
                event = self._connection.next_event()
                if event is NEED_DATA:
                    data = await self._reader.read(1 << 16)
                    if not data:
                        raise ConnectionError("the connection was closed")
                    self._connection.receive_data(data)
                elif isinstance(event, ExtraInfoReq):
                    self.writer.write(self._connection.send(ExtraInfoResp(request_id.encode())))
                else:
                    return event


class _Gateway:
    """Sends the phases of each request over connections that are chosen at random."""

    def __init__(self, lines: list[_Line]) -> None:
        self._lines = lines
        self._idle = list(lines)
        self._random = random.Random(1)  # noqa: S311  # reproducible, and no secret
        self._tokens: dict[str, int] = {}
        self.handed = Handed()

    async def prepare(self) -> None:
        for key in (PRE_REQ, POST_REQ, POST_RESP):
            prepared = await self._idle[0].call(PrepareConfReq([("carries", "{}")], key))
            self._tokens[key] = prepared.conf_token

    async def close(self) -> None:
        """Hang up."""
        for line in self._lines:
            line.writer.close()
            with suppress(ConnectionError):
                await line.writer.wait_closed()

    async def run(self, requests: int) -> None:
        """Make requests, several at a time."""
        numbers = iter(range(requests))
        await asyncio.gather(*(self._requests(numbers) for _ in range(CONCURRENT)))

    async def _requests(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.handed.requests += 1
            try:
                await self._request(number)
            except (ConnectionError, TimeoutError, _Refused) as error:
                self.handed.failures[f"{type(error).__name__}: {error}"] += 1

    async def _request(self, number: int) -> None:
        nonce, request_id = f"n{number}", secrets.token_hex(16)
        await self.request_phase(PRE_REQ, number, nonce, request_id)
        await self.request_phase(POST_REQ, number, "another", request_id)
        reply = await self._call(HTTPRespCallReq(number, 200, [("x-upstream", "1")], self._tokens[POST_RESP]), request_id)
        headers = dict(reply.headers)
        carried = headers["x-carried"] or ""
        self.handed.carried += carried == nonce
        self.handed.lost += not carried
        self.handed.mixed += carried not in (nonce, "")
        self.handed.moved += len(set((headers["x-pids"] or "").split())) > 1

    async def request_phase(self, key: str, number: int, nonce: str, request_id: str, padding: int = 0) -> None:
        """Send one request phase."""
        headers = [("x-nonce", nonce), ("x-padding", str(padding))]
        await self._call(HTTPReqCallReq(number, b"\x7f\0\0\1", "GET", "/", [], headers, self._tokens[key]), request_id)

    async def _call(self, message: Any, request_id: str) -> Any:
        line = self._idle.pop(self._random.randrange(len(self._idle)))
        reply = await line.call(message, request_id)
        self._idle.append(line)
        if isinstance(reply, ErrResp):
            raise _Refused(f"the runner replied with {ErrCode(reply.code).name}")
        return reply


def hand_over(requests: int, *, workers: int, reload_every_s: float | None) -> Handed:
    """Send requests through all phases, while SIGHUP replaces all workers every so many seconds, unless that is None."""
    with _runner(workers) as runner:
        return uvloop.run(_hand_over(runner, requests, reload_every_s))


@contextmanager
def _runner(workers: int, environ: Mapping[str, str] | None = None) -> Iterator[RunnerProcess]:
    """Start a runner, whose files in memory are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="metadata-", dir=memory_directory()) as directory:
        variables = {"APISIX_RUNNER_STATE_DIRECTORY": directory, **(environ or {})}
        with running("--workers", str(workers), plugins=[PLUGINS], environ=variables) as runner:
            yield runner


async def _hand_over(runner: RunnerProcess, requests: int, reload_every_s: float | None) -> Handed:
    gateway = await _connect(runner)
    reloading = None if reload_every_s is None else asyncio.create_task(_reload(runner, gateway.handed, reload_every_s))
    try:
        await gateway.run(requests)
    finally:
        if reloading is not None:
            reloading.cancel()
            with suppress(asyncio.CancelledError):
                await reloading
        await gateway.close()
    return gateway.handed


async def _connect(runner: RunnerProcess) -> _Gateway:
    lines = [_Line(*await asyncio.open_unix_connection(runner.path)) for _ in range(CONNECTIONS)]
    gateway = _Gateway(lines)
    await gateway.prepare()
    return gateway


async def _reload(runner: RunnerProcess, handed: Handed, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        runner.process.send_signal(signal.SIGHUP)
        handed.reloads += 1


class Flooded(msgspec.Struct):
    """The memory of a runner after a number of requests without a response phase. `store_bytes` is what its file of metadata takes."""

    requests: int
    store_bytes: int
    workers_bytes: int


def flood(requests: int, *, workers: int, size: str) -> list[Flooded]:
    """Send requests that have no response phase, and return the memory of the runner after each quarter of them."""
    with _runner(workers, {"APISIX_RUNNER_METADATA_SIZE": size}) as runner:
        return uvloop.run(_flood(runner, requests))


async def _flood(runner: RunnerProcess, requests: int) -> list[Flooded]:
    gateway = await _connect(runner)
    numbers = iter(range(requests))
    seen = []

    async def some(until: int) -> None:
        for number in numbers:
            await gateway.request_phase(PRE_REQ, number, "n", secrets.token_hex(16), PADDING)
            if number >= until:
                return

    for quarter in range(1, 5):
        until = requests * quarter // 4 - CONCURRENT
        await asyncio.gather(*(some(until) for _ in range(CONCURRENT)))
        seen.append(Flooded(until + CONCURRENT, _file_bytes(runner), sum(map(_private_bytes, children(runner.process.pid)))))
    await gateway.close()
    return seen


def _file_bytes(runner: RunnerProcess) -> int:
    """Return how many bytes the files of metadata take that the workers have open."""
    links = [link for pid in children(runner.process.pid) for link in Path(f"/proc/{pid}/fd").iterdir()]
    files = {file for file in map(os.readlink, links) if file.endswith("metadata.mdb")}
    return sum(os.stat(file).st_blocks * 512 for file in files)


def _private_bytes(pid: int) -> int:
    """Return the memory that a process does not share with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def _titled(title: str) -> Iterator[None]:
    print(title, end=": ", flush=True)
    yield


def run(requests: int, flooding: int) -> bool:
    """Hand metadata over, without and with reloads, and flood a runner. Return True if nothing was lost or mixed up."""
    clean = True
    for workers, reload_every_s in ((4, None), (4, 1.0), (1, 1.0)):
        event = "SIGHUP every second" if reload_every_s else "no reload"
        with _titled(f"{requests:,} requests, {workers} worker{'s' if workers > 1 else ''}, {event}"):
            handed = hand_over(requests, workers=workers, reload_every_s=reload_every_s)
            print(
                f"{handed.carried:,} got their own metadata, {handed.lost} lost, {handed.mixed} mixed up, {sum(handed.failures.values())} "
                f"calls failed; {handed.moved:,} had several workers; SIGHUP was sent {handed.reloads} times"
            )
        for failure, count in handed.failures.most_common(5):
            print(f"- {count} times {failure}")
        clean = clean and handed.is_clean
    size = "8MiB"
    print(f"a flood of {flooding:,} requests without a response phase, 4 workers, {PADDING} bytes each, metadata.size {size}:")
    for seen in flood(flooding, workers=4, size=size):
        print(
            f"- after {seen.requests:,}: the file of metadata takes {seen.store_bytes / 2**20:.1f} MiB, "
            f"the workers {seen.workers_bytes / 2**20:.1f} MiB of their own"
        )
        clean = clean and seen.store_bytes <= 9 * 2**20
    return clean
