# SPDX-License-Identifier: Apache-2.0
"""Runs pytest in a copy of the checkout, with a limit on time and memory, and ends every process that it leaves behind."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MEMORY_KIB = 6 * 2**20
"""Address space of each process."""
MARK = "APISIX_MUTANT_TRIAL"
PYTEST = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no"]


@dataclass(frozen=True)
class Run:
    """
    The result of a run of tests.

    Attributes:
        code: the exit status of pytest, None if the time was over.
        output: the output of pytest.
    """

    code: int | None
    output: str


def run_tests(checkout: Path, arguments: Sequence[str], limit_s: float, **environment: str) -> Run:
    """Run pytest on the sources of a checkout, for at most `limit_s` seconds."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'ulimit -c 0; ulimit -v {MEMORY_KIB}; exec "$@"', "sh", *PYTEST, *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "APISIX_RUNNER_PURE": "1", "PYTHONHASHSEED": "0", MARK: mark, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
        return Run(process.returncode, output.decode(errors="replace"))
    except subprocess.TimeoutExpired:
        return Run(None, "")
    finally:
        _kill_marked(mark)
        process.wait()


def _kill_marked(mark: str) -> None:
    # Runners that a test left behind have left its process group. A process may start another one meanwhile, so look again.
    wanted = f"{MARK}={mark}".encode()
    for _ in range(10):
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if wanted in _environment(path)]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _environment(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []
