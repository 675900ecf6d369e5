# SPDX-License-Identifier: Apache-2.0
"""The faults, one function each: what is done to a runner under load, and which of its workers end because of it."""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.soak.stage import Stage
from tests.soak.waiting import wait_until

BROKEN = "import no_such_module\n"


@dataclass(frozen=True)
class Fault:
    """
    One row of the list.

    Attributes:
        name: on the command line.
        title: in the table.
        act: causes the fault, and returns when it is over. `pace_s` is how long the load runs between two steps, in seconds.
        nothing_lost: True for a rolling restart, which must not lose any call.
        slow: True if it takes longer than a test may.
    """

    name: str
    title: str
    act: Callable[[Stage, float], None]
    arguments: Sequence[str] = ("--workers", "4")
    environ: Mapping[str, str] = field(default_factory=dict)
    nothing_lost: bool = False
    slow: bool = False


def none(stage: Stage, pace_s: float) -> None:
    """No fault, to show the variance of the machine."""
    time.sleep(2 * pace_s)


def kill_a_worker(stage: Stage, pace_s: float) -> None:
    """SIGKILL, five times; in a short run only once, because of the backoff between restarts."""
    for _ in range(5 if pace_s >= 1 else 1):
        victim = stage.workers()[0]
        stage.ended.add(victim)
        os.kill(victim, signal.SIGKILL)
        _await_new(stage, {victim})
        time.sleep(pace_s)


def reload(stage: Stage, pace_s: float) -> None:
    """SIGHUP, three times."""
    for _ in range(3):
        before = set(stage.workers())
        stage.runner.process.send_signal(signal.SIGHUP)
        _await_new(stage, before)
        time.sleep(pace_s)


def replace_a_file(stage: Stage, pace_s: float) -> None:
    """Save a plugin file that can't be imported, then one that can."""
    file = stage.plugins / "checked.py"
    code = file.read_text()
    before = set(stage.workers())
    file.write_text(BROKEN)
    stage.runner.wait_for_log("so the old ones continue")
    time.sleep(pace_s)
    # The worker that could not load the file may need a moment to exit.
    wait_until(lambda: set(stage.workers()) == before, 20, "the workers of before, because a broken file must change nothing")
    file.write_text(code.replace("VERSION = 1", "VERSION = 2"))
    _await_new(stage, before)


def restart(stage: Stage, pace_s: float) -> None:
    """SIGTERM, and a new start after the exit. The load continues, as a gateway's would, so the timeout expires."""
    stage.all_ended()
    stage.runner.stop()
    stage.start()


def take_over(stage: Stage, pace_s: float) -> None:
    """Start a new runner on the same path, then send SIGTERM to the old one, as a reload of the gateway does."""
    stage.all_ended()
    old = stage.runner
    stage.start()
    wait_until(lambda: bool(stage.workers()), 10, "the second runner has a worker")
    time.sleep(pace_s)
    old.stop()


def kill_everything(stage: Stage, pace_s: float) -> None:
    """SIGKILL to the supervisor, which ends its workers, and a new start. The tokens must still be known."""
    stage.all_ended()
    stage.runner.process.kill()
    stage.runner.process.wait()
    stage.start()


def fill_the_disk(stage: Stage, pace_s: float) -> None:
    """Fill the file system of the store while routes change, and then free the space."""
    ballast = stage.disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(stage.disk).f_bavail == 0
    stage.runner.wait_for_log("are kept in memory")
    time.sleep(2 * pace_s)
    ballast.unlink()
    time.sleep(pace_s)


def use_up_descriptors(stage: Stage, pace_s: float) -> None:
    """Limit the supervisor and the workers to eight more descriptors than they have open, and connect 400 times."""
    pids = (stage.runner.process.pid, *stage.workers())
    stage.limit(resource.RLIMIT_NOFILE, max(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids) + 8)
    connections = []
    for _ in range(400):
        connection = socket.socket(socket.AF_UNIX)
        connections.append(connection)
        connection.settimeout(1)
        connection.connect(str(stage.path))
    time.sleep(pace_s)
    refused = sum(_is_closed(connection) for connection in connections)
    for connection in connections:
        connection.close()
    stage.limit(resource.RLIMIT_NOFILE, -1)
    assert refused > 300, f"{refused} of 400 connections were refused: there was no lack"
    stage.notes.append(f"{refused} of 400 more connections refused")


def loop_forever(stage: Stage, pace_s: float) -> None:
    """Call a plugin that never returns. After `workers.timeout`, the worker is killed."""
    before = set(stage.workers())
    reply, seconds = stage.call("loop-forever")
    assert reply is None
    wait_until(lambda: bool(before - set(stage.workers())), 10, "the worker has ended")
    stage.ended |= before - set(stage.workers())
    assert "Its stacks:" in stage.runner.log()
    assert "in on_request" in stage.runner.log()
    stage.notes.append(f"the worker was killed, with its stack in the log, after {seconds:.1f} s")
    _await_new(stage, stage.ended)


def exit_at_once(stage: Stage, pace_s: float) -> None:
    """Call a plugin that ends its process, three times."""
    for _ in range(3):
        before = set(stage.workers())
        reply, _ = stage.call("exit-at-once")
        assert reply is None
        wait_until(lambda: set(stage.workers()) != before, 10, "the worker has ended")  # noqa: B023  # called in this round only
        stage.ended |= before - set(stage.workers())
        time.sleep(pace_s)
    wait_until(lambda: len(stage.workers()) == 4, 10, "all workers are there again")


def eat_memory(stage: Stage, pace_s: float) -> None:
    """Call a plugin that keeps 2 GB."""
    before = set(stage.workers())
    reply, seconds = stage.call("eat-memory", '{"bytes": 2e9}')
    assert reply is not None
    stage.notes.append(f"its own call was answered after {seconds:.1f} s")
    wait_until(lambda: bool(before - set(stage.workers())), 30, "the worker was replaced")
    stage.runner.wait_for_log("MiB of memory")


def block(stage: Stage, pace_s: float) -> None:
    """Call a plugin that blocks for 30 s, and call it again when the runner has marked it as blocking."""
    for ordinal in ("first", "second"):
        reply, seconds = stage.call("block", '{"seconds": 30}')
        assert reply is not None
        stage.notes.append(f"its {ordinal} call was answered after {seconds:.1f} s")
    assert "from now on it runs in threads" in stage.runner.log()


def _await_new(stage: Stage, before: set[int]) -> None:
    wait_until(lambda: len(stage.workers()) == 4 and not before & set(stage.workers()), 20, "new workers instead of the old ones")


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


STUCK_SOON = {"APISIX_RUNNER_WORKERS_TIMEOUT": "5s"}
SHORT_STOP = {"APISIX_RUNNER_WORKERS_SHUTDOWN_TIMEOUT": "2s"}

FAULTS: Sequence[Fault] = (
    Fault("none", "nothing (for comparison)", none, nothing_lost=True),
    Fault("kill", "SIGKILL to one worker of four, five times", kill_a_worker),
    Fault("reload", "SIGHUP, three times", reload, nothing_lost=True),
    Fault(
        "file",
        "a plugin's file replaced by a broken one, then a good one",
        replace_a_file,
        ("--workers", "4", "--reload"),
        nothing_lost=True,
    ),
    Fault("restart", "the runner stopped (SIGTERM, `workers.shutdown_timeout` 2 s) and started", restart, environ=SHORT_STOP),
    Fault("take-over", "a second runner started, then the first stopped", take_over, environ=SHORT_STOP),
    Fault("kill-all", "the supervisor killed (SIGKILL) and started", kill_everything),
    Fault("disk", "the store's disk full while routes change", fill_the_disk),
    Fault("descriptors", "no file descriptors left, 400 more connections", use_up_descriptors),
    Fault("loop", "a plugin that loops forever (`workers.timeout` 5 s)", loop_forever, environ=STUCK_SOON, slow=True),
    Fault("exit", "a plugin that calls `os._exit`, three times", exit_at_once),
    Fault(
        "memory",
        "a plugin that keeps 2 GB (`workers.memory_limit` 300 MiB)",
        eat_memory,
        ("--workers", "4"),
        {"APISIX_RUNNER_WORKERS_MEMORY_LIMIT": "300MiB"},
        slow=True,
    ),
    Fault("block", "a plugin that blocks 30 s, twice", block, slow=True),
)
