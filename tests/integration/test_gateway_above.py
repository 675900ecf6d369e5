# SPDX-License-Identifier: Apache-2.0
"""
A runner that is managed by the gateway, and peers of other users. Many of these tests need root, as a gateway that changes its user does.
"""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.echo import EchoRunner, HungUp, alive, command, echo_runner, is_within, kill, start, wait_until, wait_until_answering

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

GATEWAY = """
import os, subprocess, sys, time
# It imitates the gateway's master: it has workers, which may change their user late, and it spawns the runner.
user, late = int(sys.argv[2]), sys.argv[3] == "late"
if user and os.fork() == 0:
    while late and not os.path.exists(f"{sys.argv[1]}/change-user"):
        time.sleep(0.01)
    os.setuid(user)
    time.sleep(600)
path = f"{sys.argv[1]}/apisix-{os.getpid()}.sock"
if user:
    time.sleep(0.1)
command = [argument.replace("SOCKET", path) for argument in sys.argv[4:]]
with open(f"{sys.argv[1]}/log", "wb") as log:
    runner = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    print(runner.pid, flush=True)
    sys.exit(runner.wait())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="runner-") as name:
        os.chmod(name, 0o755)  # noqa: S103  # what this is for
        yield Path(name)


class ManagedRunner(EchoRunner):
    """A runner that was started by a gateway. `process` is the gateway, and `pid` is that of the supervisor."""

    pid = 0

    def signal(self, signum: int) -> None:
        """Send the supervisor a signal, as the gateway does."""
        os.kill(self.pid, signum)


@contextmanager
def managed(directory: Path, user: int = 0, *, late: bool = False) -> Iterator[ManagedRunner]:
    """Start a gateway that starts a runner. If its worker is `late`, the worker changes its user when a file `change-user` exists."""
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(directory), str(user), "late" if late else "", *command("SOCKET")],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert gateway.stdout is not None
    runner = ManagedRunner(directory / f"apisix-{gateway.pid}.sock", gateway, directory / "log")
    try:
        runner.pid = int(gateway.stdout.readline())
        wait_until_answering(runner)
        yield runner
    finally:
        os.killpg(gateway.pid, signal.SIGKILL)
        gateway.communicate()


def ask_as(user: int, path: Path) -> str:
    """Connect as another user, and return the answer or the reason why there is none."""
    program = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(int(sys.argv[1]))\n"
        "client = socket.socket(socket.AF_UNIX); client.settimeout(10)\n"
        "try:\n"
        "    client.connect(sys.argv[2]); client.sendall(b'hello\\n'); answer = client.recv(100)\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
        "else:\n"
        "    print(answer.decode().strip().split()[-1] if answer else 'closed')\n"
    )
    return (
        subprocess.run([sys.executable, "-c", program, str(user), str(path)], stdout=subprocess.PIPE, check=True, cwd="/")
        .stdout.decode()
        .strip()
    )


def seconds_until_gone(runner: ManagedRunner) -> float:
    """Stop the runner, and return how long that takes."""
    began_s = time.monotonic()
    runner.signal(signal.SIGTERM)
    wait_until(lambda: not alive(runner.pid))
    return time.monotonic() - began_s


def test_it_ends_with_the_gateway(directory: Path) -> None:
    """A gateway that is killed leaves no runner behind."""
    with managed(directory) as runner, runner.client() as client:
        worker = client.ask().pid
        runner.process.kill()
        runner.process.wait()

        wait_until(lambda: not alive(runner.pid) and not alive(worker))
        assert "has ended, so this runner exits" in runner.log()
        assert not runner.path.exists()


ORPHANED_GATEWAY = """
import os, subprocess, sys
# A master, and its privileged agent, which starts the runner again after the master was killed, and prints its pid.
master = os.getpid()
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.readline()
    path = f"{sys.argv[1]}/apisix-{master}.sock"
    with open(f"{sys.argv[1]}/log", "wb") as log:
        runner = subprocess.Popen([argument.replace("SOCKET", path) for argument in sys.argv[2:]], stderr=log, stdin=subprocess.DEVNULL)
    print(os.getpid(), runner.pid, flush=True)
    sys.exit(runner.wait())
os.wait()
"""


def test_a_runner_that_was_started_after_the_master_was_killed(directory: Path) -> None:
    """The runner serves the gateway's workers, which continue to run, and exits with the process that started it."""
    master = subprocess.Popen(
        [sys.executable, "-c", ORPHANED_GATEWAY, str(directory), *command("SOCKET")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert master.stdin is not None
    assert master.stdout is not None
    try:
        assert master.stdout.readline() == b"forked\n"
        master.kill()
        master.wait()
        master.stdin.write(b"go\n")
        master.stdin.flush()
        agent, runner_pid = map(int, master.stdout.readline().split())
        runner = EchoRunner(directory / f"apisix-{master.pid}.sock", master, directory / "log")
        wait_until(lambda: is_answering(runner), runner.log)

        os.kill(agent, signal.SIGKILL)

        wait_until(lambda: not alive(runner_pid), runner.log)
        assert f"the gateway (pid {agent}) has ended, so this runner exits" in runner.log()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(master.pid, signal.SIGKILL)
        master.communicate()


def is_answering(runner: EchoRunner) -> bool:
    """Return True if a worker replies."""
    try:
        with runner.client() as client:
            return client.ask().pid > 0
    except (OSError, HungUp):
        return False


def test_it_stops_faster_than_the_gateway_kills(directory: Path) -> None:
    """If the runner is stopped while a worker is stuck, it exits within the second that the gateway waits."""

    def takes_s() -> float:
        with managed(directory) as runner, runner.client() as client:
            worker = client.begin("spin").pid
            seconds = seconds_until_gone(runner)
            wait_until(lambda: not alive(worker))  # the kernel ends it with its supervisor, a moment later on a busy machine
            assert f"managed by the gateway (pid {runner.process.pid})" in runner.log()
            return seconds

    assert is_within(1.0, takes_s)


def test_it_accepts_while_it_waits_for_a_successor(directory: Path) -> None:
    """After a SIGTERM, as in a reload of the gateway, the runner still serves new connections, and exits before the gateway kills it."""

    def takes_s() -> float:
        with managed(directory) as runner:
            began_s = time.monotonic()
            runner.signal(signal.SIGTERM)
            wait_until(lambda: "SIGTERM: stopping" in runner.log())
            with runner.client() as client:
                assert client.ask().line == "hello"
            wait_until(lambda: not alive(runner.pid))
            return time.monotonic() - began_s

    assert is_within(1.0, takes_s)


def test_connections_are_kept_for_a_successor_that_is_late(directory: Path) -> None:
    """The runner exits in time, and existing and new connections are served by the next one, however late it starts."""
    path = directory / f"apisix-{os.getpid()}.sock"
    with echo_runner(path) as runner, runner.client() as connected:
        workers = runner.workers()
        connected.ask()
        runner.signal(signal.SIGTERM)
        assert runner.end() == 0
        wait_until(lambda: not any(map(alive, workers)))
        with runner.client() as new:
            new.send("new")
            connected.send("connected")
            with echo_runner(path) as successor:
                assert [new.receive().line, connected.receive().line] == ["new", "connected"]
                assert {new.ask().pid, connected.ask().pid} <= successor.workers()
                assert "Traceback" not in runner.log() + successor.log()


def test_it_can_be_told_to_stop_while_it_starts(directory: Path) -> None:
    """A SIGTERM that arrives as soon as the socket exists leaves no less time than a later one. The runner starts no worker."""
    path = directory / f"apisix-{os.getpid()}.sock"

    def takes_s() -> float:
        path.unlink(missing_ok=True)
        runner = start(path)
        try:
            wait_until(path.exists)
            began_s = time.monotonic()
            runner.signal(signal.SIGTERM)
            assert runner.end() == 0
            seconds = time.monotonic() - began_s
            assert "SIGTERM: stopping" in runner.log()
            return seconds
        finally:
            kill(runner)

    assert is_within(1.0, takes_s)


def test_connections_are_not_kept_for_ever(directory: Path) -> None:
    """If no successor starts, the socket is removed, and the connections are closed."""
    path = directory / f"apisix-{os.getpid()}.sock"
    with echo_runner(path, constants={"supervisor.shutdown.KEEP_S": 0.3}) as runner, runner.client() as client:
        client.ask()
        runner.signal(signal.SIGTERM)
        assert runner.end() == 0
        with pytest.raises(HungUp):
            client.receive()
        wait_until(lambda: not path.exists())


def test_nothing_is_kept_for_a_gateway_that_ends(directory: Path) -> None:
    """If the gateway has exited, the process that keeps the connections exits too."""
    with managed(directory) as runner, runner.client() as client:
        client.ask()
        runner.signal(signal.SIGTERM)
        with pytest.raises(HungUp):
            client.receive()
        wait_until(lambda: not runner.path.exists())


@needs_root
def test_workers_of_another_user(directory: Path) -> None:
    """
    If the gateway's workers run as nobody, the socket belongs to that user from the start, is closed to others, and calls get replies.
    """
    with managed(directory, user=NOBODY) as runner:
        status = os.lstat(runner.path)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o600)
        assert ask_as(NOBODY, runner.path) == "hello"
        assert ask_as(33, runner.path) == "PermissionError"


@needs_root
def test_workers_that_change_their_user_late(directory: Path) -> None:
    """A worker of the gateway runs as root for a moment after its fork. Its user is found soon nevertheless."""
    with managed(directory, user=NOBODY, late=True) as runner:
        assert os.lstat(runner.path).st_uid == 0
        (directory / "change-user").touch()
        wait_until(lambda: os.lstat(runner.path).st_uid == NOBODY)
        assert ask_as(NOBODY, runner.path) == "hello"
        assert "the gateway's workers run as nobody, so connections of this user are accepted" in runner.log()


@needs_root
def test_a_peer_that_is_not_allowed(directory: Path) -> None:
    """A client that the mode allows, but `socket.allow_users` does not, gets nothing, and the log contains its user."""
    path = directory / "runner.sock"
    with echo_runner(path, socket_mode=0o666) as runner:
        assert ask_as(NOBODY, path) in ("closed", "ConnectionResetError", "BrokenPipeError")
        runner.wait_for_log("a connection of user nobody (pid ")
        with runner.client() as client:
            assert client.ask().line == "hello"


@needs_root
def test_allowed_users(directory: Path) -> None:
    """Users in the settings get replies, and other users do not."""
    path = directory / "runner.sock"
    with echo_runner(path, allow_users=["nobody"]):
        assert ask_as(NOBODY, path) == "hello"
        assert ask_as(33, path) in ("PermissionError", "closed", "ConnectionResetError", "BrokenPipeError")


def test_a_socket_where_anybody_could_listen(directory: Path) -> None:
    """In a directory that everybody can write to, such as /tmp, a warning is logged."""
    with echo_runner(directory / "runner.sock") as runner:
        assert "all users can write to" not in runner.log()
    os.chmod(directory, 0o1777)  # noqa: S103  # as /tmp
    with echo_runner(directory / "runner.sock") as runner:
        runner.wait_for_log(f"all users can write to {directory}, so any user of this machine can listen on {directory}/runner.sock")


def test_a_name_alone_does_not_make_it_managed(directory: Path) -> None:
    """If the pid in the name of the socket is not that of an ancestor, the runner does not exit with that process."""
    with (
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other,
        echo_runner(directory / f"apisix-{other.pid}.sock") as runner,
        runner.client() as client,
    ):
        before = client.ask().pid
        other.kill()
        other.wait()
        assert client.ask().pid == before
        assert "managed" not in runner.log()


def test_another_client_that_connects_and_sends_nothing(directory: Path) -> None:
    """Connections on which nothing is ever sent do not delay anything."""
    with echo_runner(directory / "runner.sock") as runner:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(50)]
        for client in silent:
            client.connect(str(runner.path))
        with runner.client() as speaking:
            assert speaking.ask().line == "hello"
        for client in silent:
            client.close()
