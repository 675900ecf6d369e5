# SPDX-License-Identifier: Apache-2.0
"""
Check an installed package: it contains the compiled engine, and a runner from it handles a call over a socket.

With the argument `pure`, it must not contain the compiled engine, as after an installation without a C compiler.

`make wheel` and the workflows run this file with the Python of an environment in which only the wheel is installed, from another directory
than the checkout, so that the checkout's own package is not imported.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peer import Peer  # type: ignore[import-not-found]  # beside this file, whose directory Python puts on its path

import apisix

START_TIMEOUT_S = 30.0
COMMAND = [sys.executable, "-m", "apisix"]


def main() -> None:
    """Start a runner, send it a call for the plugin `stop`, and check the reply. Raise AssertionError if something is wrong."""
    package = Path(apisix.__file__).parent
    assert not (package.parent / "setup.py").exists(), f"{package} is a checkout, not an installed wheel"
    version = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(version, "in", package)
    assert version.endswith("(compiled)") == (sys.argv[1:] != ["pure"]), version
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "runner.sock")
        runner = subprocess.Popen([*COMMAND, "start", "--socket", str(path)])
        try:
            with connect(path) as gateway:
                reply = gateway.request(gateway.prepare(("stop", "{}")))
            assert (reply.action.status, reply.action.body) == (201, b"Hello, Python Runner of APISIX"), reply
        finally:
            runner.terminate()
            runner.wait(START_TIMEOUT_S)
    print("A call over a socket was answered.")


def connect(path: Path) -> Peer:
    """Return a connection to the runner when it listens. Raise OSError if it does not within START_TIMEOUT_S."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return Peer(path)
        except OSError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(0.05)


if __name__ == "__main__":
    main()
