# SPDX-License-Identifier: Apache-2.0
"""A real runner process for tests: it is started as users start it, waited for, and stopped."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peer import Peer

STARTS_WITHIN_S = 20.0
STOPS_WITHIN_S = 20.0


class RunnerProcess:
    """A runner that accepts connections on `path`. Its log goes to a file that `log()` returns."""

    def __init__(self, path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.path = path
        self.process = process
        self._log = log

    def peer(self, timeout_s: float = 20.0) -> Peer:
        """Return a new connection to it."""
        return Peer(self.path, timeout_s)

    def log(self) -> str:
        """Return everything that was logged so far."""
        return self._log.read_text()

    def wait_for_log(self, *texts: str, within_s: float = 10.0) -> None:
        """Return when a line with all of `texts` was logged. Raise AssertionError if it was not logged within `within_s` seconds."""
        deadline_s = time.monotonic() + within_s
        while not any(all(text in line for text in texts) for line in self.log().splitlines()):
            assert time.monotonic() < deadline_s, f"{texts} was not logged:\n{self.log()}"
            time.sleep(0.01)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOPS_WITHIN_S)


@contextmanager
def running(*arguments: str, plugins: Sequence[Path] = (), environ: Mapping[str, str] | None = None) -> Iterator[RunnerProcess]:
    """Start `apisix-runner start` in its own directory, wait until it accepts connections, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="runner-") as directory:
        path = Path(directory) / "runner.sock"
        log = Path(directory) / "log"
        directories = [argument for plugin in plugins for argument in ("--plugins", str(plugin))]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "apisix", "start", "--socket", str(path), *directories, *arguments],
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                # The store would be in a directory that survives the runner.
                env={**os.environ, "APISIX_RUNNER_STATE_DIRECTORY": directory, **(environ or {})},
            )
        runner = RunnerProcess(path, process, log)
        try:
            wait_until_accepting(runner)
            yield runner
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOPS_WITHIN_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def wait_until_accepting(runner: RunnerProcess) -> None:
    """Return when a connection is accepted. Raise AssertionError if the runner exits, or takes too long."""
    deadline_s = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(str(runner.path))
            return
        except OSError:
            assert runner.process.poll() is None, f"the runner ended:\n{runner.log()}"
            assert time.monotonic() < deadline_s, f"the runner does not accept:\n{runner.log()}"
            time.sleep(0.01)
