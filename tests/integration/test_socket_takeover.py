# SPDX-License-Identifier: Apache-2.0
"""Two runners with one path: the path always leads to a running one, and existing connections are kept."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.integration.echo import EchoRunner, HungUp, echo_runner, kill, start, wait_until, wait_until_answering

ROUNDS = int(os.environ.get("TAKEOVER_ROUNDS", "5"))
"""How often a runner starts while the one before it exits; `TAKEOVER_ROUNDS=100` for the long version."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The paths on which the runners listen."""
    return tmp_path / "runner.sock"


def test_the_second_takes_over(path: Path) -> None:
    """The first runner reports it once, passes its connections to the second one when that one serves, and exits."""
    with echo_runner(path) as first, first.client() as idle, first.client() as busy:
        idle.ask()
        served_by_first = busy.begin("sleep 1.0").pid
        with echo_runner(path) as second:
            second.wait_for_log(f"was taken over from a runner (pid {first.process.pid})")
            first.wait_for_log("leads to another runner now")
            assert busy.receive().pid == served_by_first
            wait_until(lambda: idle.ask().pid in second.workers())
            wait_until(lambda: busy.ask().pid in second.workers())

            assert first.end() == 0
            assert first.log().count("leads to another runner now") == 1
            with second.client() as new:
                assert new.ask().pid in second.workers()


def test_connections_pass_through_a_runner_that_was_displaced_itself(path: Path) -> None:
    """If three runners start one after the other, the last one gets the connection of the first."""
    with echo_runner(path) as first, first.client() as client:
        client.begin("sleep 2.0")
        with echo_runner(path) as second:
            second.wait_for_log("was taken over from a runner")
            with echo_runner(path) as third:
                third.wait_for_log("was taken over from a runner")
                client.receive()
                wait_until(lambda: client.ask().pid in third.workers())
                assert [first.end(), second.end()] == [0, 0]


def test_a_successor_that_can_not_serve(path: Path, tmp_path: Path) -> None:
    """If the second runner ends before it has a worker, the first creates its socket again and continues."""
    (tmp_path / "plugin.py").write_text("raises")
    with echo_runner(path) as first, first.client() as client:
        before = client.ask().pid
        second = start(path, plugins=[str(tmp_path)])
        try:
            assert second.end() == 1
        finally:
            kill(second)
        wait_until_answering(first)
        assert client.ask().pid == before
        with first.client() as new:
            assert new.ask().pid == before


def test_a_successor_that_is_killed_before_it_can_serve(path: Path, tmp_path: Path) -> None:
    """If a second runner was killed and left its file, the first one replaces the file and continues."""
    (tmp_path / "plugin.py").write_text("hangs")
    with echo_runner(path) as first:
        second = start(path, plugins=[str(tmp_path)])
        try:
            first.wait_for_log("leads to another runner now")
        finally:
            kill(second)
        first.wait_for_log("exited before it could serve, so this runner listens on it again")
        wait_until_answering(first)


def test_a_runner_that_takes_no_connections_over(path: Path) -> None:
    """A process that takes the path without requesting the connections gets none. The first runner serves them until the last one ends."""
    with echo_runner(path) as first, first.client() as client, socket.socket(socket.AF_UNIX) as other:
        before = client.ask().pid
        other.bind(f"{path}.other")
        other.listen()
        os.rename(f"{path}.other", path)
        first.wait_for_log("This runner no longer accepts connections, and exits when its last one is closed")
        assert client.ask().pid == before
        client.close()
        assert first.end() == 0


def test_what_waits_in_the_backlog_is_served(path: Path) -> None:
    """
    A client that connected before the first runner accepted it gets a reply from either runner, although the path leads to another one by
    then.
    """
    first = start(path)
    second = None
    try:
        wait_until(path.exists)
        first.signal(signal.SIGSTOP)
        with first.client() as client:
            client.send("hello")
            second = start(path)
            second.wait_for_log("was taken over from a runner")
            first.signal(signal.SIGCONT)
            assert client.receive().line == "hello"
        wait_until_answering(second)
        assert first.end() == 0
    finally:
        kill(first)
        if second is not None:
            kill(second)


def test_a_killed_runner_leaves_no_obstacle(path: Path) -> None:
    """The file of a runner that was killed is replaced without a warning."""
    with echo_runner(path) as first:
        first.signal(signal.SIGKILL)
        first.end()
        assert path.exists()
        with echo_runner(path) as second:
            assert '"warning"' not in second.log()


def test_a_socket_that_somebody_removes_comes_back(path: Path) -> None:
    """
    A runner of release 0.2 unlinks the path when it exits, even if the file belongs to another. The file is created again, and
    connections are kept.
    """
    with echo_runner(path) as runner, runner.client() as old:
        before = old.ask().pid
        path.unlink()
        wait_until_answering(runner)
        runner.wait_for_log("was removed, and has been created again")
        assert old.ask().pid == before
        runner.signal(signal.SIGTERM)
        assert runner.end() == 0
        assert not path.exists()


def test_one_starts_while_the_other_exits(path: Path) -> None:
    """Many rounds of a reload of the gateway. At the end of each round, the path leads to the new runner."""
    runner = start(path)
    try:
        wait_until_answering(runner)
        for round_number in range(ROUNDS):
            earlier, runner = runner, start(path, shutdown_timeout_s=0.8)
            # Sometimes the old one leaves before the new one has come, sometimes long after, and mostly at about that time.
            threading.Timer(0.2 * round_number / ROUNDS, earlier.signal, (signal.SIGTERM,)).start()
            assert earlier.end() == 0
            wait_until_answering(runner)
            with runner.client() as client:
                wait_until(lambda: len(runner.workers()) == 1)  # noqa: B023  # called in this round only
                assert client.ask().pid in runner.workers()
            assert [name for name in os.listdir(path.parent) if not name.startswith("log-")] == [path.name]
    finally:
        kill(runner)


def test_a_storm_of_starts(path: Path) -> None:
    """If eight runners start at the same time, one remains, the others exit, and no client is refused."""
    runners = [start(path) for _ in range(8)]
    refused: list[BaseException] = []
    try:
        wait_until(path.exists)
        done = threading.Event()

        def connect() -> None:
            while not done.is_set():
                try:
                    with runners[0].client() as client:
                        client.ask()
                except (OSError, HungUp) as error:
                    refused.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        wait_until(lambda: sum(running(runner) for runner in runners) == 1, lambda: "\n".join(runner.log() for runner in runners))
        done.set()
        thread.join()

        assert refused == []
        (survivor,) = (runner for runner in runners if running(runner))
        with survivor.client() as client:
            assert client.ask().pid in survivor.workers()
        assert {runner.end() for runner in runners if runner is not survivor} == {0}
    finally:
        for runner in runners:
            kill(runner)


def running(runner: EchoRunner) -> bool:
    """True if the supervisor has not ended."""
    return runner.process.poll() is None
