# SPDX-License-Identifier: Apache-2.0
"""
A process of the pool. `pool_process.py` starts it, as `python -m apisix.runner.process_pool DESCRIPTOR PID`.

Args:
    DESCRIPTOR: the socket to the worker.
    PID: the process id of the worker.
"""

import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import msgspec

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.logging.tracebacks import format_error
from apisix.runner.plugin.forked import become_child, end_if_child
from apisix.runner.process_pool.lifetime import die_with
from apisix.runner.process_pool.log import install
from apisix.runner.process_pool.messages import (
    LENGTH,
    Done,
    Failed,
    FromProcess,
    Hello,
    InfoRefused,
    InfoReplies,
    InfoWanted,
    Malformed,
    Run,
    ToProcess,
    encode,
)
from apisix.runner.process_pool.runner import HookRunner


class WorkerExited(BaseException):
    """The worker has closed its end. Not an Exception, because no plugin should catch it."""


class Connection:
    """The socket to the worker. `receive` must be called in one thread only."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stream = sock.makefile("rb")
        self._lock = threading.Lock()
        self._decode = msgspec.msgpack.Decoder(ToProcess).decode

    def send(self, message: FromProcess) -> None:
        """Send a message. Raise ValueError if it is too long."""
        data = encode(message)
        with self._lock, suppress(OSError):  # the worker has exited, which `receive` finds out
            self._socket.sendall(data)

    def receive(self) -> ToProcess:
        """Return the next message. Raise WorkerExited if the worker has closed its end."""
        data = b""
        with suppress(OSError):
            head = self._stream.read(LENGTH.size)
            data = self._stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
        if not data:
            raise WorkerExited
        message: ToProcess = self._decode(data)
        return message

    def request_info(self, wanted: InfoWanted) -> InfoReplies | InfoRefused:
        """Send info requests and return the reply."""
        self.send(wanted)
        reply = self.receive()
        assert isinstance(reply, InfoReplies | InfoRefused)  # noqa: S101  # the worker sends nothing else while a hook runs
        return reply

    def abandon(self) -> None:
        """Close the socket, in a child process that a plugin has forked."""
        become_child()
        with suppress(OSError):
            os.close(self._socket.detach())


def serve(connection: Connection) -> None:
    """Run hooks until the worker closes its end."""
    hello = connection.receive()
    assert isinstance(hello, Hello)  # noqa: S101  # it is the first message
    sys.path[:] = hello.sys_path
    os.environ.pop("PYTHONPATH", None)
    if hello.python_path is not None:
        os.environ["PYTHONPATH"] = hello.python_path
    install(connection.send, hello.log_level)
    runner = HookRunner(hello, connection.request_info)
    try:
        while True:
            run = connection.receive()
            assert isinstance(run, Run)  # noqa: S101  # the worker sends nothing else between two hooks
            outcome = _run(runner, run)
            try:
                connection.send(outcome)
            except ValueError as error:
                connection.send(Failed(str(error), ""))
    except WorkerExited:
        runner.close()


def _run(runner: HookRunner, run: Run) -> Done | Failed | Malformed:
    try:
        done = Done(runner.run(run))
    except RemoteProtocolError as error:
        end_if_child(error)
        return Malformed(str(error))
    except WorkerExited:
        raise
    except BaseException as error:  # plugins may raise anything, SystemExit included
        end_if_child(error)
        return Failed(f"{type(error).__name__}: {error}", format_error(error))
    end_if_child()
    return done


def main() -> None:
    """Run the process."""
    descriptor, parent_pid = map(int, sys.argv[1:])
    # Ctrl-C and a service manager signal all processes. This one ends when the worker does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    die_with(parent_pid)
    os.set_inheritable(descriptor, False)  # the standard library's argument
    connection = Connection(socket.socket(fileno=descriptor))
    os.register_at_fork(after_in_child=connection.abandon)
    serve(connection)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads of plugins must not keep the process
