# SPDX-License-Identifier: Apache-2.0
"""The measured servers and the load on them, each pinned to its core."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.files import BUILD, HERE, CannotMeasure, Frames
from bench.modes import AS_IT_IS, Mode

START_TIMEOUT_S = 20.0
SAMPLE_BYTES = 65536
"""How much of a reply the load generator shows."""


def cores() -> tuple[set[int], set[int]]:
    """Return the core of the server and that of the load; the same one if there is no other."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


@contextmanager
def echo(frames: Frames, directory: Path) -> Iterator[tuple[Path, list[int]]]:
    """Run the baseline with the canned frames of a case."""
    path = directory / "echo.sock"
    path.unlink(missing_ok=True)
    with serving([str(BUILD / "echo"), "--socket", str(path), *frames.echo], path, dict(os.environ), cores()[0]) as process:
        yield path, [process.pid]


@contextmanager
def runner(
    directory: Path, mode: Mode = AS_IT_IS, *, workers: int = 1, on: set[int] | None = None, plugins: bool = True
) -> Iterator[tuple[Path, list[int]]]:
    """
    Run the runner, with the plugins of the benchmark or with none.

    Yields: its socket, and the pids of all its processes, the supervisor's first.
    """
    path = directory / f"{mode.name.replace(' ', '-').replace(',', '')}-{workers}.sock"
    path.unlink(missing_ok=True)
    command = start_command(mode, path, workers=workers, plugins=plugins)
    with serving(command, path, mode.variables(), on or cores()[0], stop_with=signal.SIGINT) as process:
        yield path, process_family(process.pid, 1 + workers)


def start_command(mode: Mode, path: Path, *, workers: int = 1, plugins: bool = True) -> list[str]:
    """Return the command that starts the runner on the socket `path`."""
    command = [mode.python, "-m", "apisix", "start", "--socket", str(path), "--workers", str(workers)]
    return [*command, "--plugins", str(HERE / "plugins")] if plugins else command


def load(
    case: Case,
    frames: Frames,
    path: Path,
    pids: Sequence[int],
    *,
    connections: int,
    seconds: float,
    idle: int = 0,
    warmup_calls: int = 0,
    sleeping: bool = False,
    on: set[int] | None = None,
    check: Callable[[Case, bytes], None] | None = None,
) -> dict[str, Any]:
    """
    Put load on the server at `path` and return what the load generator measured.

    Args:
        pids: the server's processes, whose CPU time is counted.
        connections: how many of them have one call each in flight.
        seconds: how long to measure.
        idle: how many further connections to open.
        warmup_calls: the least number of calls before the measurement starts.
        sleeping: whether the load generator sleeps while it waits.
        on: the cores of the load generator.
        check: raises CannotMeasure if the frame of a reply is not the right one; `check_reply` if it is not given.
    Raises:
        CannotMeasure: a reply was an error or not the right one, or there was none.
    """
    command = [str(BUILD / "load"), "--socket", str(path), *frames.load, "--connections", str(connections), "--idle", str(idle)]
    command += ["--seconds", str(seconds), "--warmup", str(min(1.0, seconds / 2)), "--warmup-calls", str(max(warmup_calls, connections))]
    command += ["--sleep"] if sleeping else []
    command += [word for pid in pids for word in ("--cpu-of", str(pid))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120 + 2 * seconds, preexec_fn=_pinned(on or cores()[1])
    )
    if done.returncode:
        raise CannotMeasure(f"The load generator gave up in the case {case.name!r}: {done.stderr.strip()}")
    seen: dict[str, Any] = json.loads(done.stdout)
    reply = bytes.fromhex(seen.pop("sample_reply"))
    if not seen["calls"]:
        raise CannotMeasure(
            f"In the case {case.name!r}, no call was answered within {seconds:g} s: the machine does other work, or the runner hangs."
        )
    if seen["errors"]:
        raise CannotMeasure(f"In the case {case.name!r}, {seen['errors']} of {seen['calls']} calls were answered with an error.")
    if case.body_bytes and not seen["asks"]:
        raise CannotMeasure(f"In the case {case.name!r} the body was never requested.")
    if len(reply) < SAMPLE_BYTES:  # a longer one is cut off there
        (check or check_reply)(case, reply)
    return seen


def check_reply(case: Case, frame: bytes) -> None:
    """Raise CannotMeasure if the plugins did not do their work, because a runner that does nothing is fast."""
    expected = case.answer(1)
    actual: Any = type(expected).decode(frame[4:])
    actual.id = 1
    if expected != actual:
        raise CannotMeasure(f"In the case {case.name!r} the answer should be\n  {expected!r}\nand is\n  {actual!r}")


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory whose name is short enough for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)


@contextmanager
def serving(
    command: Sequence[str],
    path: Path,
    environment: Mapping[str, str],
    on: set[int] | None = None,
    *,
    timeout_s: float = START_TIMEOUT_S,
    stop_with: signal.Signals = signal.SIGTERM,
    directory: Path = HERE.parent,
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Start a server, wait until it listens at `path`, and end it afterwards.

    Args:
        on: its cores.
        timeout_s: how long it may take to listen, in seconds.
        stop_with: the signal that ends it.
        directory: its working directory.
    Raises:
        CannotMeasure: it does not listen; the text has its output.
    """
    # SIGINT lets the runner stop at once, where after a SIGTERM it waits for calls that may still come.
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=directory, preexec_fn=_pinned(on or cores()[0])
        ) as process,
    ):
        try:
            _wait_for(path, process, timeout_s)
            yield process
        except CannotMeasure as problem:
            output.seek(0)
            raise CannotMeasure(f"{problem}\n{output.read().decode(errors='replace')[-4000:]}") from problem
        finally:
            process.send_signal(stop_with)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(path: Path, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if not probe.connect_ex(str(path)):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotMeasure(f"{process.args!r} does not listen.")
        time.sleep(0.02)


def _pinned(on: set[int]) -> Any:
    return lambda: os.sched_setaffinity(0, on)


def process_family(pid: int, size: int, timeout_s: float = START_TIMEOUT_S) -> list[int]:
    """Return a process and its descendants, when there are `size` of them or the time is over."""
    deadline = time.monotonic() + timeout_s
    while len(pids := _family(pid)) < size and time.monotonic() < deadline:
        time.sleep(0.02)
    return pids


def _family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(descendant for child in children for descendant in _family(int(child)))]
