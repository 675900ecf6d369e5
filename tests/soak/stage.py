# SPDX-License-Identifier: Apache-2.0
"""A runner that can be started again on its path, the load on it, and its processes."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from apisix.runner.supervisor.listening.credentials import peer_of
from apisix.runner.wire.messages import HTTPReqCallReq
from tests.peer import PRE_REQ, HungUp, Peer
from tests.runner_process import STARTS_WITHIN_S, STOPS_WITHIN_S, RunnerProcess
from tests.soak.load import Seen
from tests.soak.waiting import wait_until

PLUGINS = Path(__file__).parent / "plugins"
BOUND_S = 90.0


class Load:
    """The process that makes the calls."""

    def __init__(self, path: Path, *, rate: float = 200.0, connections: int = 32, churn: int = 0) -> None:
        options = ["--socket", str(path), "--rate", str(rate), "--connections", str(connections), "--churn", str(churn)]
        self.process = subprocess.Popen([sys.executable, "-m", "tests.soak.load", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", "the load did not get all its connections answered"

    def end(self) -> Seen:
        """Wait until the running calls have ended, and return the result."""
        output, _ = self.process.communicate(timeout=BOUND_S)
        return msgspec.json.decode(output, type=Seen)

    def kill(self) -> None:
        """Kill the process of the load, whatever it is doing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Stage:
    """
    A runner under test.

    Attributes:
        directory: the directory of the socket, the store and the log.
        disk: the directory of the store if it is on its own file system.
        plugins: a copy of the plugins, which may be changed.
        ended: the workers that were killed or exited because of a fault. Connections to them may lose a call.
    """

    def __init__(self, directory: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.directory = directory
        self.disk = directory / "disk"
        self.plugins = directory / "plugins"
        shutil.copytree(PLUGINS, self.plugins, ignore=shutil.ignore_patterns("__pycache__"))
        self.ended: set[int] = set()
        self.notes: list[str] = []
        self._arguments = arguments
        self._environ = environ
        self._log = directory / "log"
        self.runner = self.start()

    @property
    def path(self) -> Path:
        """The socket."""
        return self.directory / "runner.sock"

    def start(self) -> RunnerProcess:
        """Start a runner on the path. Return when this runner, and not an earlier one, accepts connections."""
        with self._log.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "apisix", "start", "--socket", str(self.path), "--plugins", str(self.plugins), *self._arguments],
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self._environ},
            )
        self.runner = RunnerProcess(self.path, process, self._log)
        wait_until(lambda: self.listener() == process.pid, STARTS_WITHIN_S, "the path leads to the new runner")
        return self.runner

    def listener(self) -> int:
        """Return the pid of the process that listens on the path, or 0 if there is none."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.path))
                return peer_of(probe).pid
            except OSError:
                return 0

    def workers(self) -> list[int]:
        """Return the pids of the supervisor's children."""
        return children(self.runner.process.pid)

    def all_ended(self) -> None:
        """Record that all current workers will end because of the fault."""
        self.ended |= set(self.workers())

    def call(self, plugin: str, value: str = "{}", timeout_s: float = BOUND_S) -> tuple[object, float]:
        """Make one call over its own connection. Return the reply, or None if there is none, and how long it took in seconds."""
        began_s = time.monotonic()
        with self.runner.peer(timeout_s) as peer:
            token = peer.prepare((plugin, value), key=PRE_REQ)
            try:
                return peer.request(token), time.monotonic() - began_s
            except (HungUp, ConnectionResetError):
                return None, time.monotonic() - began_s

    def begin(self, plugin: str, value: str = "{}") -> Peer:
        """Begin a call and do not wait for its reply."""
        peer = self.runner.peer(BOUND_S)
        token = peer.prepare((plugin, value), key=PRE_REQ)
        peer.send(HTTPReqCallReq(id=1, conf_token=token))
        return peer

    def limit(self, kind: int, value: int) -> None:
        """Lower a limit of all processes of the runner while they run."""
        for pid in (self.runner.process.pid, *self.workers()):
            _, hard = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, (value if value >= 0 else hard, hard))

    def stop(self) -> None:
        """End the runner, soon if it can."""
        process = self.runner.process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def stage(arguments: Sequence[str] = (), environ: Mapping[str, str] | None = None, *, small_disk: bool = False) -> Iterator[Stage]:
    """
    Start everything in its own directory, and remove it at the end.

    Args: small_disk: put the store on a file system of 1 MiB, which only root can mount.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ExitStack() as cleanup:
        directory = Path(name)
        settings = {"APISIX_RUNNER_STATE_DIRECTORY": name, **(environ or {})}
        if small_disk:
            _mount(directory / "disk", cleanup)
            settings["APISIX_RUNNER_CONF_STORE_FILE"] = str(directory / "disk" / "tokens.sqlite")
        ours = Stage(directory, arguments, settings)
        try:
            yield ours
        finally:
            ours.stop()


def _mount(directory: Path, cleanup: ExitStack) -> None:
    directory.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "soak", str(directory)], check=True)  # noqa: S607
    cleanup.callback(subprocess.run, ["umount", str(directory)], check=True)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
