# SPDX-License-Identifier: Apache-2.0
"""What the supervisor does about a worker that is stuck or uses too much memory, with clocks and processes that the tests control."""

import logging
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from apisix.runner.ipc.channel import Channel
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool import watchdog
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.watchdog import Watchdog
from apisix.runner.supervisor.worker_pool.worker_process import Stage, WorkerProcess
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump

NO_PROCESS = 1 << 30  # above every pid that a system has
MIB = 1 << 20


class ManualReactor:
    """Calls the registered callbacks when the test does, and not by time."""

    def __init__(self) -> None:
        self.check: Callable[[], object] = lambda: None
        self.later: list[Callable[[], object]] = []

    def call_every(self, every_s: float, callback: Callable[[], object]) -> None:
        self.check = callback

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> None:
        self.later.append(callback)

    def poll(self) -> bool:
        """Run the next timer that is due. Return True if there was one."""
        if not self.later:
            return False
        self.later.pop(0)()
        return True


class Pool:
    """Records the requests of the watchdog."""

    def __init__(self) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.given_up: list[WorkerProcess] = []
        self.replaced: list[tuple[WorkerProcess, str, bool]] = []
        self.evened_out = 0

    def give_up(self, worker: WorkerProcess) -> None:
        worker.stage = Stage.DOOMED
        self.given_up.append(worker)

    def replace(self, worker: WorkerProcess, reason: str, forced: bool) -> None:
        self.replaced.append((worker, reason, forced))

    def even_out(self) -> None:
        self.evened_out += 1


class Dump(StackDump):
    """A stack dump which the test writes: one text for each time that it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.requested = 0

    def request(self, pid: int) -> None:
        self.requested += 1

    def read(self) -> str:
        return self.texts.pop(0) if len(self.texts) > 1 else "".join(self.texts)


class Machine:
    """A watchdog with one worker, at a time that the test sets."""

    def __init__(self, settings: Settings) -> None:
        self.now_s = 1000.0
        self.reactor = ManualReactor()
        self.pool = Pool()
        self.dump = Dump()
        self.settings = settings
        self.used_bytes = 0
        self.killed = 0
        self.workers: list[WorkerProcess] = []
        self._ends: list[Channel] = []
        self.worker = self.add_worker(7)

    def start(self) -> None:
        Watchdog(cast(Reactor, self.reactor), self.settings, cast(WorkerPool, self.pool))

    def add_worker(self, number: int) -> WorkerProcess:
        """Add a worker that serves, and has for a long time."""
        ours, theirs = Channel.pair()
        self._ends.append(theirs)
        worker = WorkerProcess(number, NO_PROCESS + number, ours, self.dump, Heartbeat(), 0)
        worker.stage = Stage.SERVING
        worker.started_s = 0.0
        worker.memory_bytes = lambda: self.used_bytes  # type: ignore[method-assign]
        worker.kill = self._kill  # type: ignore[method-assign]
        worker.heartbeat.due_s = self.now_s + 10.0
        self.pool.workers[worker.pid] = worker
        self.workers.append(worker)
        return worker

    def _kill(self) -> None:
        self.killed += 1

    def at(self, now_s: float, late_s: float = 0.0) -> None:
        """Let the watchdog look at a time when the worker's heartbeat has been due for `late_s` seconds."""
        self.now_s = now_s
        self.worker.heartbeat.due_s = now_s - late_s
        self.reactor.check()

    def close(self) -> None:
        for worker, end in zip(self.workers, self._ends, strict=True):
            worker.close()
            end.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(worker_timeout_s=10.0, memory_limit_bytes=100 * MIB)


@pytest.fixture
def machine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(settings)

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return made.now_s

    monkeypatch.setattr(watchdog, "time", Clock)
    made.start()
    yield made
    made.close()


def test_a_worker_is_given_up_once_it_is_late_for_longer_than_the_timeout(machine: Machine) -> None:
    machine.at(1001.0, late_s=10.0)
    assert machine.pool.given_up == []

    machine.at(1002.0, late_s=10.5)
    assert machine.pool.given_up == [machine.worker]
    assert machine.dump.requested == 1

    machine.at(1003.0, late_s=11.5)
    assert machine.pool.given_up == [machine.worker]


def test_a_stuck_worker_is_killed_when_its_stacks_are_complete(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The stacks are complete if they have not grown since the last look."""
    machine.dump.texts = ["", "File a", "File a, File b", "File a, File b"]
    machine.at(1001.0, late_s=11.0)
    looks = 0
    while machine.killed == 0 and looks < 100:
        assert machine.reactor.poll()
        looks += 1

    assert (machine.killed, looks) == (1, 3)
    assert machine.reactor.poll() is False
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"worker 7 (pid {NO_PROCESS + 7}) has been stuck for 10 s and is killed. Its stacks:\nFile a, File b"


def test_a_stuck_worker_that_writes_no_stacks_is_killed_after_a_second(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.at(1001.0, late_s=11.0)
    looks = 0
    while machine.killed == 0 and looks < 100:
        assert machine.reactor.poll()
        looks += 1

    assert looks * watchdog.DUMP_POLL_S == pytest.approx(1.0)
    assert caplog.messages == [f"worker 7 (pid {NO_PROCESS + 7}) has been stuck for 10 s and is killed. It did not write its stacks"]


def test_a_stuck_worker_that_has_exited_meanwhile_is_not_killed(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Its pid may belong to another process by then."""
    machine.at(1001.0, late_s=11.0)
    machine.pool.workers.clear()
    while machine.reactor.poll():
        pass

    assert (machine.killed, caplog.messages) == (0, [])


@pytest.mark.parametrize(("paused_s", "given_up"), [(2.0, 1), (3.0, 1), (3.5, 0), (3600.0, 0)])
def test_after_a_pause_of_the_supervisor_no_worker_is_late(machine: Machine, paused_s: float, given_up: int) -> None:
    """If the whole machine was stopped, the workers were stopped too."""
    machine.at(1000.0 + paused_s, late_s=3600.0)

    assert len(machine.pool.given_up) == given_up
    machine.at(1001.0 + paused_s, late_s=3600.0)
    assert len(machine.pool.given_up) == 1


def test_a_pause_does_not_shorten_what_a_worker_has_promised(machine: Machine) -> None:
    machine.at(1010.0, late_s=-60.0)

    assert machine.worker.heartbeat.due_s == 1070.0


@pytest.mark.parametrize(("used_mib", "age_s", "replaced"), [(100, 60.0, False), (101, 60.0, True), (101, 3.0, False), (101, 3.5, True)])
def test_a_worker_above_the_memory_limit_is_replaced_unless_it_is_young(
    machine: Machine, used_mib: int, age_s: float, replaced: bool
) -> None:
    machine.used_bytes = used_mib * MIB
    machine.worker.started_s = 1001.0 - age_s
    machine.at(1001.0)

    assert machine.pool.replaced == ([(machine.worker, f"it uses {used_mib} MiB of memory", True)] if replaced else [])


@pytest.mark.parametrize("settings", [Settings(memory_limit_bytes=0)])
def test_without_a_memory_limit_no_worker_is_replaced(machine: Machine) -> None:
    machine.used_bytes = 1 << 40
    machine.at(1001.0)

    assert machine.pool.replaced == []


def test_a_worker_that_is_being_killed_is_left_alone_and_the_others_are_not(machine: Machine) -> None:
    other = machine.add_worker(8)
    machine.worker.stage = Stage.DOOMED
    machine.used_bytes = 101 * MIB
    machine.at(1001.0, late_s=11.0)

    assert machine.pool.given_up == []
    assert machine.pool.replaced == [(other, "it uses 101 MiB of memory", True)]


def test_connections_are_balanced_at_every_check(machine: Machine) -> None:
    machine.at(1001.0)
    machine.at(1002.0)

    assert machine.pool.evened_out == 2
