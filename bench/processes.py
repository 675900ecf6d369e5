# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured and the load on them, each pinned to its core."""

import json
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
from typing import Any

from bench.cases import Case
from bench.files import BUILD, HERE, CannotMeasure, Frames

START_TIMEOUT_S = 20.0


def cores() -> tuple[set[int], set[int]]:
    """Return the core of the server and that of the load; the same one where there is no other."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


@contextmanager
def echo(frames: Frames, directory: Path) -> Iterator[tuple[Path, list[int]]]:
    """Run the echo with the canned frames of a case."""
    path = directory / "echo.sock"
    path.unlink(missing_ok=True)
    with _server([str(BUILD / "echo"), "--socket", str(path), *frames.echo], path, {}, cores()[0]) as process:
        yield path, [process.pid]


@contextmanager
def runner(
    directory: Path, *, workers: int = 1, environment: Mapping[str, str] | None = None, on: set[int] | None = None
) -> Iterator[tuple[Path, list[int]]]:
    """Run the runner with the plugins of the benchmark. The pids are those of all its processes."""
    path = directory / "runner.sock"
    command = [
        sys.executable,
        "-m",
        "apisix",
        "start",
        "--socket",
        str(path),
        "--plugins",
        str(HERE / "plugins"),
        "--workers",
        str(workers),
    ]
    with _server(command, path, environment or {}, on or cores()[0]) as process:
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(pids := _family(process.pid)) < 1 + workers and time.monotonic() < deadline:
            time.sleep(0.02)
        yield path, pids


def load(case: Case, frames: Frames, path: Path, pids: Sequence[int], *, connections: int, seconds: float, idle: int = 0) -> dict[str, Any]:
    """
    Put load on the server at `path` and return what the load generator saw.

    Raises: CannotMeasure: a reply was not what the case says, or an error.
    """
    command = [str(BUILD / "load"), "--socket", str(path), *frames.load, "--connections", str(connections), "--idle", str(idle)]
    command += [
        "--seconds",
        str(seconds),
        "--warmup",
        str(min(1.0, seconds / 2)),
        *(word for pid in pids for word in ("--cpu-of", str(pid))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + 2 * seconds, preexec_fn=_pinned(cores()[1]))
    if done.returncode:
        raise CannotMeasure(f"The load generator gave up in the case {case.name!r}: {done.stderr.strip()}")
    seen: dict[str, Any] = json.loads(done.stdout)
    reply = bytes.fromhex(seen.pop("sample_reply"))
    if seen["errors"] or not seen["calls"]:
        raise CannotMeasure(f"In the case {case.name!r}, {seen['errors']} of {seen['calls']} calls were answered with an error.")
    check_reply(case, reply)
    return seen


def check_reply(case: Case, frame: bytes) -> None:
    """Make sure that the plugins did their work: a runner that does nothing is fast."""
    expected = case.answer(1)
    actual: Any = type(expected).decode(frame[4:])
    actual.id = 1
    if expected != actual:
        raise CannotMeasure(f"In the case {case.name!r} the answer should be\n  {expected!r}\nand is\n  {actual!r}")


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory whose name leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)


@contextmanager
def _server(command: Sequence[str], path: Path, environment: Mapping[str, str], on: set[int]) -> Iterator[subprocess.Popen[bytes]]:
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}, cwd=HERE.parent, preexec_fn=_pinned(on)
        ) as process,
    ):
        try:
            _wait_for(path, process)
            yield process
        except CannotMeasure as problem:
            output.seek(0)
            raise CannotMeasure(f"{problem}\n{output.read().decode(errors='replace')[-4000:]}") from problem
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if not probe.connect_ex(str(path)):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotMeasure(f"{process.args!r} does not listen.")
        time.sleep(0.02)


def _pinned(on: set[int]) -> Any:
    return lambda: os.sched_setaffinity(0, on)


def _family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(descendant for child in children for descendant in _family(int(child)))]
