# SPDX-License-Identifier: Apache-2.0
"""Start the runner's processes with an echo instead of the plugins, and communicate with them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

BOUND_S = 20.0


@dataclass(frozen=True)
class Answer:
    """The reply of an echo worker: its process id, its version of the code, the plugins that it marked as blocking, and the line."""

    pid: int
    version: str
    marks: str
    line: str


class HungUp(Exception):
    """The runner closed the connection."""


class Client:
    """One connection."""

    def __init__(self, path: Path | str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(BOUND_S)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, line: str) -> None:
        """Send a line and do not wait."""
        self.socket.sendall(line.encode() + b"\n")

    def receive(self) -> Answer:
        """Return the next answer. Raise HungUp if there is none."""
        while b"\n" not in self._received:
            try:
                data = self.socket.recv(4096)
            except ConnectionResetError:
                data = b""
            if not data:
                raise HungUp
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        pid, version, marks, rest = line.decode().split(" ", 3)
        return Answer(int(pid), version, marks, rest)

    def begin(self, line: str) -> Answer:
        """Send a line that takes long to process. Return when the worker has started to process it."""
        self.send(line)
        answer = self.receive()
        assert answer.line == f"{line} begun"
        return answer

    def ask(self, line: str = "hello") -> Answer:
        """Send a line and return its answer."""
        self.send(line)
        answer = self.receive()
        assert answer.line == line
        return answer


class EchoRunner:
    """A running supervisor with its workers."""

    def __init__(self, path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.path = path
        self.process = process
        self._log = log

    def client(self) -> Client:
        """Return a new connection."""
        return Client(self.path)

    def log(self) -> str:
        """Return everything that was logged so far."""
        return self._log.read_text()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Return when `text` was logged `times` times."""
        wait_until(lambda: self.log().count(text) >= times, lambda: f"{text!r} was not logged:\n{self.log()}")

    def signal(self, signum: int) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(signum)

    def reload(self) -> None:
        """Reload, and return when the new workers serve."""
        before = self.log().count(" in the place of ")
        self.signal(signal.SIGHUP)
        self.wait_for_log(" in the place of ", before + 1)

    def end(self) -> int:
        """Return the exit status when the process has exited."""
        return self.process.wait(BOUND_S)

    def workers(self) -> set[int]:
        """Return the pids of the supervisor's children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in children.read_text().split()}


def wait_until(condition: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it is not so", within_s: float = BOUND_S) -> None:
    """Return once `condition` is true. Raise AssertionError if it is not true within `within_s` seconds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, otherwise()
        time.sleep(0.005)


def is_within(bound_s: float, takes_s: Callable[[], float], attempts: int = 3) -> bool:
    """True if one of the attempts takes less than `bound_s` seconds. A busy machine may be late once; slow code is slow each time."""
    return any(takes_s() < bound_s for _ in range(attempts))


def command(path: Path | str, constants: Mapping[str, float] | None = None, **settings: Any) -> list[str]:
    """Return the command that starts a runner, with these settings, and with other constants in its modules."""
    arguments = [{"socket_file": str(path), **settings}, constants or {}]
    return [sys.executable, "-m", "tests.integration.echo_runner", *(msgspec.json.encode(each).decode() for each in arguments)]


def start(
    path: Path, *, limits: Sequence[tuple[int, int]] = (), constants: Mapping[str, float] | None = None, **settings: Any
) -> EchoRunner:
    """Start a runner and do not wait for it. Its log is beside the socket, one file for each process."""
    log = path.with_name(f"log-{time.monotonic_ns()}")

    def limit() -> None:
        import resource

        for what, most in limits:
            resource.setrlimit(what, (most, most))

    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command(path, constants, **settings),
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=limit if limits else None,  # the tests' own threads do nothing at that moment
        )
    return EchoRunner(path, process, log)


@contextmanager
def echo_runner(path: Path, **settings: Any) -> Iterator[EchoRunner]:
    """Start a runner, wait until it answers, and remove everything that it leaves."""
    runner = start(path, **settings)
    try:
        wait_until_answering(runner, settings.get("workers", 1))
        yield runner
    finally:
        kill(runner)


def wait_until_answering(runner: EchoRunner, workers: int = 1) -> None:
    """Return when so many workers have answered, each on its own connection."""

    def all_answer() -> bool:
        assert runner.process.poll() is None, f"the runner ended:\n{runner.log()}"
        try:
            with ExitStack() as opened:
                clients = [opened.enter_context(runner.client()) for _ in range(workers)]
                return len({client.ask().pid for client in clients}) == workers
        except (OSError, HungUp):
            return False

    wait_until(all_answer, runner.log)


def kill(runner: EchoRunner) -> None:
    """End a runner and all its workers, which are in their own process group."""
    with suppress(ProcessLookupError):
        os.killpg(runner.process.pid, signal.SIGKILL)
    runner.process.wait()


def alive(pid: int) -> bool:
    """True if a process runs. A zombie does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
