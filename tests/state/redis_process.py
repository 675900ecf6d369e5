# SPDX-License-Identifier: Apache-2.0
"""Redis and Valkey servers that tests start: one server, one with sentinels, and a cluster. Their entries are never written to disk."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.ports import reserved_port

SERVICE = "main"
MAX_WAIT_S = 60.0
_SLOTS = 16384
_IN_MEMORY = ("--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "noeviction")


class Server:
    """
    A server, which can be stopped and started again.

    Args:
        program: the path of the program.
        directory: where the server may write.
        options: further options of its command line. Without a port, it listens on a unix socket only.
        port: its port on the loopback interface.
        password: what clients must send, if it is not "".
    """

    def __init__(self, program: str, directory: Path, options: tuple[str, ...] = _IN_MEMORY, port: int = 0, password: str = "") -> None:
        self.port = port
        self._password = password
        self._directory = directory
        self._socket = directory / f"{port}.sock"
        ports = ("--tls-port", str(port), "--port", "0") if "--tls-cert-file" in options else ("--port", str(port))
        listen = (*ports, "--bind", "127.0.0.1")
        self._command = [program, *options, *listen, "--unixsocket", str(self._socket), "--dir", str(directory)]
        if password:
            self._command += ["--requirepass", password]
        self.url = f"unix://:{password}@{self._socket}" if password else f"unix://{self._socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it replies."""
        with (self._directory / f"{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._is_ready)

    def stop(self) -> None:
        """Kill the server. Its entries are lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self._socket.unlink(missing_ok=True)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop the process in this block, so that the server accepts connections, but does not reply."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client of this server for the test."""
        password = self._password or None
        return redis.Redis(unix_socket_path=str(self._socket), password=password, protocol=2, socket_timeout=MAX_WAIT_S)

    def is_primary(self) -> bool:
        """True if it accepts writes. It closes all connections when that changes."""
        with self.client() as client, suppress(redis.ConnectionError):
            return bool(client.execute_command("ROLE")[0] == b"master")
        return False

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"the server has ended: {(self._directory / f'{self.port}.log').read_text(errors='replace')[-2000:]}")
        with self.client() as client, suppress(redis.ConnectionError):
            return bool(client.ping())
        return False


class Setup:
    """
    Servers that are one store together.

    Attributes:
        url: the value of the setting `state.url`.
        servers: those that have entries.
        sentinels: those that choose the primary.
    """

    def __init__(self, url: str, servers: list[Server], sentinels: list[Server]) -> None:
        self.url = url
        self.servers = servers
        self.sentinels = sentinels

    def clear(self) -> None:
        """Delete all entries."""
        for server in self.primaries():
            with server.client() as client:
                client.flushall()

    def advance(self, seconds: float) -> None:
        """Shorten the lifetimes of the entries, because the clock of a server can't be set."""
        for server in self.primaries():
            with server.client() as client:
                for key in client.execute_command("KEYS", "*"):
                    left_ms = client.pttl(key)
                    if left_ms >= 0:
                        client.pexpire(key, int(left_ms - seconds * 1000))

    def primaries(self) -> Iterator[Server]:
        """Yield the running servers that accept writes."""
        for server in self.servers:
            if server.process is not None and server.is_primary():
                yield server


def wait_until(is_true: Callable[[], object]) -> None:
    """Wait for a condition. Fail after a minute."""
    until_s = time.monotonic() + MAX_WAIT_S
    while not is_true():
        if time.monotonic() > until_s:
            pytest.fail(f"this took longer than {MAX_WAIT_S:g} s: {is_true}")
        time.sleep(0.01)


@contextmanager
def running(name: str = "redis-server", password: str = "", tls: tuple[str, ...] = (), *, on_port: bool = False) -> Iterator[Setup]:
    """Run one server until the end of the block, on a unix socket, and also on a port if `on_port` is set. `tls`: its options for TLS."""
    with _directory() as directory, ExitStack() as stack:
        port = stack.enter_context(reserved_port()) if on_port else 0
        server = stack.enter_context(_started(Server(_program(name), directory, _IN_MEMORY + tls, port, password)))
        account = f":{password}@" if password else ""
        yield Setup(f"redis://{account}127.0.0.1:{port}" if on_port else server.url, [server], [])


@contextmanager
def running_sentinels() -> Iterator[Setup]:
    """Run a primary, a replica and three sentinels that replace a primary after a second."""
    program = _program("redis-server")
    with _directory() as directory, ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in range(5)]
        primary = stack.enter_context(_started(Server(program, directory, _IN_MEMORY, ports[0])))
        options = (*_IN_MEMORY, "--replicaof", "127.0.0.1", str(ports[0]), "--repl-diskless-sync-delay", "0")
        replica = stack.enter_context(_started(Server(program, directory, options, ports[1])))
        wait_until(partial(_is_replica, replica))
        sentinels = []
        for port in ports[2:]:
            file = directory / f"{port}.conf"
            file.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 1000\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
            sentinels.append(stack.enter_context(_started(Server(program, directory, (str(file), "--sentinel"), port))))
        for sentinel in sentinels:
            wait_until(partial(_is_informed, sentinel))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        yield Setup(f"sentinel://{hosts}/{SERVICE}", [primary, replica], sentinels)


@contextmanager
def running_cluster(replicas: int = 0) -> Iterator[Setup]:
    """Run a cluster of three primaries, each with this number of replicas."""
    program = _program("redis-server")
    with _directory() as directory, ExitStack() as stack:
        nodes = []
        for _ in range(3 * (1 + replicas)):
            port, bus = stack.enter_context(reserved_port()), stack.enter_context(reserved_port())
            cluster = ("--cluster-enabled", "yes", "--cluster-config-file", f"{port}.nodes", "--cluster-node-timeout", "1500")
            # On a busy machine, a replica can have been without its primary for so long that by default it would not replace it.
            failover = ("--cluster-replica-validity-factor", "0")
            options = (*_IN_MEMORY, *cluster, *failover, "--cluster-port", str(bus), "--repl-diskless-sync-delay", "0")
            nodes.append((stack.enter_context(_started(Server(program, directory, options, port))), bus))
        servers = [server for server, _ in nodes]
        for number, server in enumerate(servers[:3]):
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", _SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        with servers[0].client() as client:
            for server, bus in nodes[1:]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        wait_until(lambda: all(len(_nodes(server)) == len(servers) for server in servers))
        for number, server in enumerate(servers[3:]):
            with servers[number % 3].client() as client:
                primary = client.execute_command("CLUSTER", "MYID").decode()
            with server.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", primary)
            wait_until(partial(_is_replica, server))
        wait_until(lambda: all(_is_cluster_ok(server) for server in servers))
        yield Setup(f"cluster://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}", servers, [])


SETUPS = {
    "redis-server": lambda: running("redis-server", on_port=True),
    "unix socket": lambda: running("redis-server"),
    "valkey-server": lambda: running("valkey-server"),
    "sentinel": running_sentinels,
    "cluster": running_cluster,
}


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:  # tmp_path is too long for the path of a socket
        yield Path(directory)


@contextmanager
def _started(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name} (Debian: apt-get install {name})")
    return program


def _is_replica(server: Server) -> bool:
    """True if a server has received the entries of its primary."""
    with server.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _is_informed(sentinel: Server) -> bool:
    """True if a sentinel has found the replica and the other sentinels."""
    with sentinel.client() as client:
        reply = client.execute_command("SENTINEL", "MASTER", SERVICE)
    state = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    texts = {_text(name): _text(value) for name, value in state.items()}
    return (texts["num-slaves"], texts["num-other-sentinels"]) == ("1", "2")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _nodes(server: Server) -> list[bytes]:
    with server.client() as client:
        reply = client.execute_command("CLUSTER", "NODES")
    return list(reply) if isinstance(reply, dict) else reply.splitlines()


def _is_cluster_ok(server: Server) -> bool:
    with server.client() as client:
        reply = client.execute_command("CLUSTER", "INFO")
    text = str(reply)
    return "cluster_state" in text and ("cluster_state:ok" in text or "'ok'" in text)
