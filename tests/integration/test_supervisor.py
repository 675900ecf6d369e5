# SPDX-License-Identifier: Apache-2.0
"""The supervisor and its workers as real processes: what happens after a signal, a crash or a change of code."""

import json
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from apisix.compiled import engine
from apisix.runner.supervisor.supervisor import LOOK_S
from tests.integration.echo import Answer, Client, EchoRunner, HungUp, alive, echo_runner, is_within, kill, start, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests look at processes through /proc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path on which the runner listens."""
    return tmp_path / "runner.sock"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The file that contains the code of the workers."""
    (tmp_path / "plugins").mkdir()
    file = tmp_path / "plugins" / "plugin.py"
    file.write_text("v1")
    return file


class Load:
    """Clients that send lines without a pause, each on its own connection, until they are stopped."""

    def __init__(self, runner: EchoRunner, clients: int) -> None:
        self.answers: list[Answer] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(runner,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, runner: EchoRunner) -> None:
        try:
            with runner.client() as client:
                while not self._stop.is_set():
                    self.answers.append(client.ask())
        except BaseException as error:
            self.errors.append(error)

    def end(self) -> None:
        """Stop the clients."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def connect() -> Iterator[Callable[[EchoRunner, int], list[Client]]]:
    """Open connections that are closed at the end of the test."""
    opened: list[Client] = []

    def connect(runner: EchoRunner, count: int) -> list[Client]:
        clients = [runner.client() for _ in range(count)]
        opened.extend(clients)
        return clients

    yield connect
    for client in opened:
        client.close()


Connect = Callable[[EchoRunner, int], list[Client]]


def spread(clients: list[Client]) -> Counter[int]:
    """Return how many of the connections each worker has."""
    return Counter(client.ask().pid for client in clients)


def even(clients: list[Client], workers: int) -> bool:
    """True if no worker has more than 1.25 times the mean."""
    counts = spread(clients)
    return len(counts) == workers and max(counts.values()) <= 1.25 * len(clients) / workers


# Spread


def test_connections_spread_evenly(path: Path, connect: Connect) -> None:
    """If there are 64 connections and 4 workers, none has more than 20: at the start, after one was killed, and after a reload."""
    with echo_runner(path, workers=4) as runner:
        clients = connect(runner, 64)
        assert even(clients, 4)

        victim = clients[0].ask().pid
        os.kill(victim, signal.SIGKILL)
        survivors = []
        for client in clients:
            try:
                client.ask()
                survivors.append(client)
            except (HungUp, OSError):
                client.close()
        assert len(survivors) >= 44
        clients = survivors + connect(runner, 64 - len(survivors))
        wait_until(lambda: even(clients, 4), lambda: f"{spread(clients)}\n{runner.log()}")

        runner.reload()
        wait_until(lambda: even(clients, 4), lambda: f"{spread(clients)}\n{runner.log()}")
        assert victim not in spread(clients)


def test_connections_that_have_gone_do_not_count(path: Path, connect: Connect) -> None:
    """When all connections of one worker are closed, the remaining and new connections are distributed over both workers."""
    with echo_runner(path, workers=2) as runner:
        clients = connect(runner, 16)
        emptied = clients[0].ask().pid
        kept = [client for client in clients if client.ask().pid != emptied]
        for client in clients:
            if client not in kept:
                client.close()
        assert len(kept) == 8
        wait_until(lambda: {4} == set(spread(kept).values()), runner.log)
        assert set(spread(kept + connect(runner, 4)).values()) == {6}


# Deaths


def test_a_killed_worker_is_replaced_at_once(path: Path, connect: Connect) -> None:
    """The connections of other workers are not affected, and a new worker serves within a second."""

    def takes_s() -> float:
        with echo_runner(path, workers=2) as runner:
            clients = connect(runner, 8)
            victim = clients[0].ask().pid
            others = [client for client in clients if client.ask().pid != victim]
            began_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(runner.workers() - {victim}) == 2, runner.log)
            seconds = time.monotonic() - began_s

            assert len(others) == 4
            assert all(client.ask().pid != victim for client in others)
            runner.wait_for_log("was killed by signal 9")
            return seconds

    assert is_within(1.0, takes_s)


def test_a_worker_that_exits_by_itself(path: Path) -> None:
    """A plugin that repeatedly calls os._exit ends only the connections of its own worker, and the runner continues."""
    with echo_runner(path) as runner:
        for _ in range(3):
            with runner.client() as client, pytest.raises(HungUp):
                client.ask("exit 7")
        with runner.client() as client:
            assert client.ask().version == "1"
        runner.wait_for_log("exited with status 7, and ", 3)


def test_no_worker_outlives_the_supervisor(path: Path, connect: Connect) -> None:
    """When the supervisor is killed, its workers exit too, even a busy one."""
    with echo_runner(path, workers=2) as runner:
        clients = connect(runner, 2)
        workers = set(spread(clients))
        clients[0].begin("spin")
        runner.signal(signal.SIGKILL)

        wait_until(lambda: not any(map(alive, workers)))
        runner.end()


def test_connections_that_a_dead_worker_never_took_are_served(path: Path) -> None:
    """A stuck worker is killed, and its stack is logged. Its successor serves the clients that connected meanwhile."""
    with echo_runner(path, worker_timeout_s=1.0) as runner, runner.client() as stuck:
        stuck.begin("spin")
        with runner.client() as waiting:
            assert waiting.ask().version == "1"
        with pytest.raises(HungUp):
            stuck.receive()

        runner.wait_for_log("has been stuck for 1 s and is killed. Its stacks:")
        assert "in _spin" in runner.log()
        assert "Traceback" not in runner.log()


def test_a_stuck_worker_gets_no_new_connections(path: Path, connect: Connect) -> None:
    """While one worker is stuck, the other one serves clients that connect a quarter of a second later, however many connections it has."""
    with echo_runner(path, workers=2) as runner, runner.client() as stuck:
        crowd = connect(runner, 7)
        assert len(spread([stuck, *crowd])) == 2
        stuck.begin("block 19")
        time.sleep(0.4)  # silence is nothing that could be waited for
        began_s = time.monotonic()
        others = connect(runner, 8)

        assert len(spread(others)) == 1
        assert time.monotonic() - began_s < 5


def test_a_supervisor_that_is_late_blames_nobody(path: Path, connect: Connect) -> None:
    """After a pause of the supervisor, connections from that time are distributed over all workers, which are not considered stuck."""
    with echo_runner(path, workers=4) as runner:
        connect(runner, 4)
        runner.signal(signal.SIGSTOP)
        time.sleep(0.4)  # heartbeats wait to be read
        clients = connect(runner, 60)
        runner.signal(signal.SIGCONT)
        assert even(clients, 4)


def test_a_blocking_worker_is_left_in_peace(path: Path) -> None:
    """A worker that is stuck for less than its timeout is not killed."""
    with echo_runner(path, worker_timeout_s=3.0) as runner, runner.client() as client:
        before = client.ask().pid
        client.begin("block 1.5")
        assert client.receive().pid == before
        assert client.ask().pid == before


# Reloads


def test_a_reload_loses_nothing(path: Path, plugin: Path) -> None:
    """Under load from 16 connections, five reloads lose no call and no connection, and the new code replies at the end."""
    with echo_runner(path, workers=2, plugins=[str(plugin.parent)]) as runner:
        load = Load(runner, 16)
        for version in range(2, 7):
            plugin.write_text(f"v{version}")
            runner.reload()
        wait_until(lambda: {"v6"} == {answer.version for answer in load.answers[-100:]}, runner.log)
        load.end()

        assert load.errors == []
        assert {"v1", "v6"} <= {answer.version for answer in load.answers}


def test_a_call_that_runs_stays_where_it_is(path: Path, plugin: Path) -> None:
    """A reload waits for a running call. After the reply, its connection continues in the new worker, and the old worker exits."""
    with echo_runner(path, plugins=[str(plugin.parent)]) as runner, runner.client() as client:
        old = client.ask().pid
        client.begin("sleep 1.0")
        plugin.write_text("v2")
        runner.reload()
        assert alive(old)

        assert (lambda answer: (answer.pid, answer.version))(client.receive()) == (old, "v1")
        wait_until(lambda: client.ask().version == "v2")
        wait_until(lambda: not alive(old))


def test_half_a_call_goes_on_where_it_began(path: Path, plugin: Path) -> None:
    """A connection on which half a line was received is not handed over before the line is complete and answered."""
    with echo_runner(path, plugins=[str(plugin.parent)]) as runner, runner.client() as client:
        old = client.ask().pid
        client.socket.sendall(b"half")
        assert client.receive().line == "half begun"
        runner.reload()
        client.socket.sendall(b" a line\n")
        assert (lambda answer: (answer.pid, answer.line))(client.receive()) == (old, "half a line")
        wait_until(lambda: client.ask().pid != old)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("broken", "plugin.py, line 1: broken"),
        ("raises", "RuntimeError: the store can't be opened"),
        ("exits", "exited with status 3 while it was starting"),
    ],
)
def test_code_that_does_not_load_changes_nothing(path: Path, plugin: Path, code: str, reason: str) -> None:
    """The old workers continue, the reason is logged, and corrected code is loaded."""
    with echo_runner(path, workers=2, plugins=[str(plugin.parent)]) as runner, runner.client() as client:
        before = runner.workers()
        plugin.write_text(code)
        runner.signal(signal.SIGHUP)
        runner.wait_for_log("SIGHUP: the new workers can't serve, so the old ones continue: ")
        assert reason in runner.log()
        wait_until(lambda: before == runner.workers())
        assert client.ask().version == "v1"

        plugin.write_text("v2")
        runner.reload()
        wait_until(lambda: client.ask().version == "v2")


def test_many_broken_files_are_told_once(path: Path, plugin: Path) -> None:
    """
    The workers log each file that does not load. The reason why the old workers remain is one short line, with the number and the first
    of these files.
    """
    with echo_runner(path, plugins=[str(plugin.parent)]) as runner:
        plugin.write_text("broken\nbroken too\nbroken as well")
        runner.signal(signal.SIGHUP)
        runner.wait_for_log("so the old ones continue: 3 plugins are refused, see above; the first: plugin.py, line 1: broken")
        assert "broken as well" not in runner.log()


def test_what_was_broken_from_the_start_does_not_keep_other_code_out(path: Path, plugin: Path) -> None:
    """A plugin that never loaded does not prevent a reload that does not fix it."""
    plugin.write_text("broken-1")
    with echo_runner(path, plugins=[str(plugin.parent)]) as runner, runner.client() as client:
        plugin.write_text("broken-2")
        runner.reload()
        wait_until(lambda: client.ask().version == "broken-2")


def test_a_reload_that_hangs_is_given_up(path: Path, plugin: Path) -> None:
    """If new code hangs while it is loaded, the new worker is killed after the timeout. The old workers serve all the time."""
    with echo_runner(path, worker_timeout_s=1.5, plugins=[str(plugin.parent)]) as runner, runner.client() as client:
        before = client.ask().pid
        plugin.write_text("hangs")
        runner.signal(signal.SIGHUP)
        runner.wait_for_log("has been stuck for 1.5 s")
        runner.wait_for_log("the old ones continue")
        assert client.ask().pid == before


def test_changed_files_are_noticed(path: Path, plugin: Path) -> None:
    """With `reload`, a saved file takes effect within a second. A broken one is reported, and the old code continues."""
    assert LOOK_S <= 0.5
    with echo_runner(path, plugins=[str(plugin.parent)], reload=True) as runner, runner.client() as client:
        plugin.write_text("v2")
        wait_until(lambda: client.ask().version == "v2", runner.log)
        plugin.write_text("broken")
        runner.wait_for_log("plugin.py, line 1: broken")
        assert client.ask().version == "v2"
        plugin.write_text("v3")
        wait_until(lambda: client.ask().version == "v3", runner.log)
        assert f"{plugin} changed" in runner.log()


def test_many_reloads_at_once(path: Path, plugin: Path) -> None:
    """Signals that arrive during a reload cause one more reload, so the last change always takes effect."""
    with echo_runner(path, workers=2, plugins=[str(plugin.parent)]) as runner, runner.client() as client:
        for version in range(2, 12):
            plugin.write_text(f"v{version}")
            runner.signal(signal.SIGHUP)
        wait_until(lambda: client.ask().version == "v11", runner.log)
        wait_until(lambda: len(runner.workers()) == 2, runner.log)


def test_workers_are_replaced_after_max_requests(path: Path) -> None:
    """A worker that has reached its limit of calls is replaced, under load and without losing a call."""
    with echo_runner(path, workers=2, max_requests=500) as runner:
        load = Load(runner, 8)
        wait_until(lambda: runner.log().count(" is replaced: it has answered ") >= 3, runner.log)
        load.end()

        assert load.errors == []


def test_a_worker_that_is_told_to_end(path: Path) -> None:
    """After a SIGTERM to a worker, it is replaced before it exits, and its connections are kept."""
    with echo_runner(path) as runner, runner.client() as client:
        old = client.ask().pid
        os.kill(old, signal.SIGTERM)
        wait_until(lambda: client.ask().pid != old, runner.log)
        runner.wait_for_log("is replaced: somebody sent it a SIGTERM")


def test_a_signal_to_the_whole_group(path: Path) -> None:
    """If the supervisor and its workers get SIGTERM together, no worker is replaced, whichever process gets the signal first."""
    with echo_runner(path, workers=2) as runner:
        for worker in runner.workers():
            os.kill(worker, signal.SIGTERM)
        os.killpg(runner.process.pid, signal.SIGTERM)
        assert runner.end() == 0
        assert "is replaced" not in runner.log()


def test_marks_reach_all_workers(path: Path) -> None:
    """If one worker marks a plugin as blocking, the other workers know it, and so do workers that start later."""
    with echo_runner(path, workers=2) as runner, runner.client() as one, runner.client() as other:
        assert one.ask().pid != other.ask().pid
        one.ask("mark slow-plugin")
        wait_until(lambda: other.ask().marks == "slow-plugin")
        runner.reload()
        with runner.client() as new:
            assert new.ask().marks == "slow-plugin"


# Ends


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_running_call_is_finished(path: Path, signum: int) -> None:
    """After a SIGTERM, the runner completes running calls, exits, and removes its socket."""
    with echo_runner(path, workers=2) as runner, runner.client() as client, runner.client() as idle:
        workers = runner.workers()
        idle.ask()
        client.begin("sleep 0.5")
        runner.signal(signum)

        assert client.receive().line == "sleep 0.5"
        assert runner.end() == 0
        assert not path.exists()
        assert not any(map(alive, workers))
        assert "Traceback" not in runner.log()


def test_calls_that_keep_coming_are_answered_for_a_while(path: Path) -> None:
    """
    A gateway that is stopped together with the runner still connects and calls. It gets replies until it stops, and then the runner
    exits.
    """
    with echo_runner(path) as runner:
        runner.signal(signal.SIGTERM)
        began_s = time.monotonic()
        while time.monotonic() < began_s + 1.5:
            with runner.client() as client:
                client.ask()
        assert runner.end() == 0
        assert not path.exists()


def test_steady_calls_do_not_keep_it(path: Path) -> None:
    """After `stop_accepting_after`, the runner exits even if calls still arrive."""
    with echo_runner(path, stop_accepting_after_s=1.0) as runner:
        load = Load(runner, 2)
        try:
            runner.signal(signal.SIGTERM)
            assert runner.end() == 0
        finally:
            load.end()
        assert len(load.answers) > 0
        assert len(load.errors) == 2


@pytest.mark.parametrize("timeout_s", [0.8, 0.3])
def test_nothing_is_waited_for_too_long(path: Path, timeout_s: float) -> None:
    """A stuck worker and a call that takes too long are ended within the timeout."""

    def takes_s() -> float:
        with echo_runner(path, workers=2, shutdown_timeout_s=timeout_s) as runner, runner.client() as one, runner.client() as other:
            one.begin("spin")
            other.begin("sleep 30")
            runner.signal(signal.SIGTERM)
            began_s = time.monotonic()
            assert runner.end() == 0
            seconds = time.monotonic() - began_s
            assert "workers have not finished in time and are killed" in runner.log()
            return seconds

    assert is_within(timeout_s + 0.1, takes_s)


def test_told_twice(path: Path) -> None:
    """A second Ctrl-C does not wait."""
    with echo_runner(path) as runner, runner.client() as client:
        client.begin("sleep 30")
        runner.signal(signal.SIGINT)
        runner.wait_for_log("SIGINT: stopping")
        runner.signal(signal.SIGINT)
        assert runner.end() == 0


# Starts


def test_wrong_settings(path: Path) -> None:
    """If the socket can't be created, the runner exits with a message and the status 2."""
    path.mkdir()
    runner = start(path)
    assert runner.end() == 2
    assert f"apisix-runner: the socket {path} can't be created: there is a directory at this path" in runner.log()


@pytest.mark.parametrize(("code", "reason"), [("raises", "RuntimeError: the store can't be opened"), ("exits", "exited with status 3")])
def test_no_worker_comes_up(path: Path, plugin: Path, code: str, reason: str) -> None:
    """If no worker can start, the runner exits with the reason, so that the gateway does not wait."""
    plugin.write_text(code)
    runner = start(path, plugins=[str(plugin.parent)])
    try:
        assert runner.end() == 1
        assert "no worker can be started, so this runner exits: " in runner.log()
        assert reason in runner.log()
        assert not path.exists()
    finally:
        kill(runner)


def test_connections_wait_for_the_first_worker(path: Path) -> None:
    """The socket is created before anything else. A client that connects at once gets a reply when there is a worker."""
    runner = start(path)
    try:
        wait_until(path.exists)
        with runner.client() as client:
            assert client.ask().version == "1"
    finally:
        kill(runner)


def test_a_signal_that_comes_early(path: Path) -> None:
    """After a SIGTERM during its start, the runner leaves no socket and no process."""
    for _ in range(3):
        runner = start(path)
        try:
            wait_until(path.exists)
            runner.signal(signal.SIGTERM)
            assert runner.end() == 0
            assert not path.exists()
        finally:
            kill(runner)


def test_a_log_that_can_not_be_written(path: Path) -> None:
    """A mistake that is found after the socket was created also ends the start, and the socket is removed."""
    runner = start(path, log_file=str(path.parent / "none" / "log"))
    assert runner.end() == 2
    assert "apisix-runner: " in runner.log()
    assert "Traceback" not in runner.log()
    assert not path.exists()


def test_the_supervisor_has_no_thread(path: Path) -> None:
    """The supervisor has one thread, so that it can fork at any time, and no worker has a descriptor of another one."""
    with echo_runner(path, workers=3) as runner:
        assert os.listdir(f"/proc/{runner.process.pid}/task") == [str(runner.process.pid)]
        sockets = [sockets_of(pid) for pid in runner.workers()]
        assert set() == sockets[0] & sockets[1] | sockets[1] & sockets[2] | sockets[0] & sockets[2]


def sockets_of(pid: int) -> set[str]:
    """Return the sockets that a process has open. The process may open and close files meanwhile."""
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(os.readlink(link))
    return {target for target in held if target.startswith("socket:")}


# Limits


def outcome(client: Client) -> str:
    """Send a request. True if there was a reply."""
    try:
        client.ask()
    except (HungUp, OSError):
        return "refused"
    return "answered"


def test_max_connections(path: Path, connect: Connect) -> None:
    """A connection above the limit is closed at once. When another one has been closed, new ones are accepted again."""
    with echo_runner(path, workers=2, max_connections=4) as runner:
        clients: list[Client] = []
        while len(clients) < 4:  # the connection that waited for the start may still be counted
            clients += [client for client in connect(runner, 1) if outcome(client) == "answered"]
        assert outcome(connect(runner, 1)[0]) == "refused"
        clients[0].close()
        wait_until(lambda: outcome(connect(runner, 1)[0]) == "answered", runner.log)

        assert [client for client in clients[1:] if outcome(client) != "answered"] == []
        assert "as many as limits.max_connections allows" in runner.log()


def test_out_of_descriptors(path: Path, connect: Connect) -> None:
    """
    If no descriptors are left, connections are refused at once, no process exits, and connections are accepted when some are free again.
    """
    with echo_runner(path, limits=[(resource.RLIMIT_NOFILE, 40)]) as runner:
        workers = runner.workers()
        clients = connect(runner, 80)
        outcomes = Counter(outcome(client) for client in clients)
        assert outcomes["answered"] >= 10
        assert outcomes["refused"] >= 30
        for client in clients:
            client.close()
        wait_until(lambda: outcome(connect(runner, 1)[0]) == "answered", runner.log)

        assert runner.workers() == workers
        assert "out of file descriptors" in runner.log()


def test_memory_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that uses too much memory is replaced, and its connection continues."""
    constants = {"supervisor.worker_pool.watchdog.PERIOD_S": 0.1, "supervisor.worker_pool.watchdog.YOUNG_S": 0.3}
    with echo_runner(path, memory_limit_bytes=200 << 20, constants=constants) as runner, runner.client() as client:
        old = client.ask(f"eat {250 << 20}").pid
        wait_until(lambda: client.ask().pid != old, runner.log)
        runner.wait_for_log("MiB of memory")


def test_the_log_is_json(path: Path) -> None:
    """If all processes write to one stream, the output consists of complete lines of JSON."""
    with echo_runner(path, workers=2) as runner:
        runner.reload()
        runner.signal(signal.SIGTERM)
        runner.end()
        messages = [json.loads(line)["message"] for line in runner.log().splitlines()]

    assert messages[0] == f"listening on {path} ({engine()})"
    assert messages[-1] == "stopped"
