# SPDX-License-Identifier: Apache-2.0
"""A client with another user, which tries to connect to the runner. Only root can start one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this test connects as another user, which only root can become")

# It changes its user after Python has started, because other users may not be allowed to read the files of Python.
CLIENT = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(10)
    client.connect(sys.argv[2])
    try:
        client.sendall(bytes([1, 0, 0, 4, 0, 0, 0, 0]))
        print(client.recv(100))
    except (BrokenPipeError, ConnectionResetError):
        print(b"")
"""


def ask_as(uid: int, path: Path) -> str:
    """Connect as another user, and return the received bytes or the error."""
    process = subprocess.run([sys.executable, "-c", CLIENT, str(uid), str(path)], capture_output=True, text=True, check=False)
    return process.stdout.strip() or process.stderr.strip().splitlines()[-1]
