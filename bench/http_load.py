# SPDX-License-Identifier: Apache-2.0
"""HTTP load with wrk, and the CPU time of the processes that serve it."""

import json
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.cases import REQUEST_HEADERS, Case
from bench.files import CannotMeasure

REQUEST_TIMEOUT_S = 10
END_TIMEOUT_S = 30.0
"""How long wrk may take to end after the measured time, in seconds."""
_LISTENING = "0A"
"""The state in /proc/net/tcp. Source: Linux, include/net/tcp_states.h."""


@dataclass(frozen=True)
class Load:
    """The results of wrk. Latencies are in microseconds."""

    requests: int
    duration_s: float
    status_errors: int
    socket_errors: int
    p50_us: float
    p99_us: float


def check_installed() -> None:
    """Raise CannotMeasure if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise CannotMeasure("Measuring through a gateway needs the HTTP load generator wrk, and it is not on PATH (Debian: wrk).")


def write_script(case: Case, directory: Path) -> Path:
    """Write the script for wrk that sends the request of a case and prints the results."""
    headers = "".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in REQUEST_HEADERS if name != "host")
    body = f"wrk.method = 'POST'\nwrk.body = {json.dumps(case.body().decode())}\n" if case.body_bytes else ""
    path = directory / f"{case.name}.lua"
    path.write_text(
        f"""{headers}{body}
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{{"requests": %d, "duration_s": %f, "status_errors": %d, "socket_errors": %d, "p50_us": %f, "p99_us": %f}}',
    summary.requests, summary.duration / 1e6, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
""",
        encoding="utf-8",
    )
    return path


def run(url: str, script: Path, *, connections: int, threads: int, seconds: float) -> Load:
    """
    Send requests for `seconds`, on so many connections at a time.

    Raises:
        CannotMeasure: wrk failed, did not end in time, or got no reply.
    """
    command = ["wrk", "--connections", str(connections), "--threads", str(threads), "--duration", f"{max(1, round(seconds))}s"]
    command += ["--timeout", f"{REQUEST_TIMEOUT_S}s", "--script", str(script), url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotMeasure(f"wrk did not end within {END_TIMEOUT_S:g} s after the measured time.") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        raise CannotMeasure(f"wrk failed with status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    load = Load(**json.loads(lines[-1]))
    if not load.requests:
        raise CannotMeasure(f"wrk got no reply within {load.duration_s:.0f} s; {load.socket_errors} requests failed.")
    return load


def cpu_s(pids: Iterable[int]) -> float:
    """Return the user and system time of all threads of these processes, in seconds."""
    total = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # the thread has ended
                total += int(file.read_text().split()[0])
    return total / 1e9


def listeners(url: str) -> set[int]:
    """Return the pids of the processes that listen on the port of `url`, as far as this user may see them."""
    port = urlsplit(url).port or 80
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for fields in (line.split() for line in Path(table).read_text().splitlines()[1:]):
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return _holders(inodes)


def listener_at(path: Path) -> int | None:
    """Return the pid of the process that listens on the Unix socket `path`, None if there is none."""
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)):
            return None
        # Source: unix(7), SO_PEERCRED: of a client's socket, the credentials of the process that called listen.
        pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
        return pid


def _holders(inodes: set[str]) -> set[int]:
    links = {f"socket:[{inode}]" for inode in inodes}
    found = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(descriptor.readlink()) in links:
                found.add(int(descriptor.parts[2]))
    return found
