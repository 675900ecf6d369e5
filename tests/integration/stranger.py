# SPDX-License-Identifier: Apache-2.0
"""Another user of the system, who tries to speak to the runner. Only root can send one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this test connects as another user, which only root can become")

# It becomes somebody else once Python has started: where Python lies, others may not be allowed to read.
STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as stranger:
    stranger.settimeout(10)
    stranger.connect(sys.argv[2])
    try:
        stranger.sendall(bytes([1, 0, 0, 4, 0, 0, 0, 0]))
        print(stranger.recv(100))
    except (BrokenPipeError, ConnectionResetError):
        print(b"")
"""


def ask_as(uid: int, path: Path) -> str:
    """Connect as another user and return what came back, or how it failed."""
    process = subprocess.run([sys.executable, "-c", STRANGER, str(uid), str(path)], capture_output=True, text=True, check=False)
    return process.stdout.strip() or process.stderr.strip().splitlines()[-1]
