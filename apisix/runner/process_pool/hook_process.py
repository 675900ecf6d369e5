# SPDX-License-Identifier: Apache-2.0
"""A process of the pool: it runs the hooks that the worker sends, one after the other. The fork server forks it."""

import logging
import os
import select
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import Final, NoReturn

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
    Ready,
    Run,
    StoreCounted,
    ToProcess,
    WarmedUp,
    WarmUp,
    encode,
)
from apisix.runner.process_pool.runner import HookRunner
from apisix.runner.state.counters import counters

EARLIER: Final = 500
"""How much is added to the score by which Linux chooses which process it ends, between -1000 and 1000."""

logger = logging.getLogger(__name__)


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

    def has_received(self) -> bool:
        """Return True if `receive` would return or raise at once. The worker sends one message at a time, so nothing is buffered."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

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
    os.environ.clear()
    os.environb.update(hello.environ)
    install(connection.send, hello.log_level)
    runner = HookRunner(hello, connection.request_info)
    connection.send(Ready())
    counted = counters.values()
    try:
        while True:
            message = connection.receive()
            if isinstance(message, WarmUp):
                _warm_up(runner, message, connection)
                continue
            assert isinstance(message, Run)  # noqa: S101  # the worker sends nothing else between two hooks
            outcome = _run(runner, message)
            counted = send_store_counts(connection, counted)
            try:
                connection.send(outcome)
            except (ValueError, TypeError, OverflowError) as error:  # too long, or not what the messages can contain
                connection.send(Failed(f"{type(error).__name__}: {error}", ""))
    except WorkerExited:
        runner.close()


def _warm_up(runner: HookRunner, message: WarmUp, connection: Connection) -> None:
    for plugin, value in message.instances:
        if connection.has_received():
            break
        try:
            runner.warm_up(plugin, value)
        except BaseException as error:  # plugins may raise anything. The call that needs the instance reports it
            end_if_child(error)
            logger.debug("an instance of %s can't be created in advance: %s", plugin.qualname, format_error(error))
        end_if_child()
    connection.send(WarmedUp())


def send_store_counts(connection: Connection, counted: tuple[int, ...]) -> tuple[int, ...]:
    """Send what was counted about the shared store. Args: counted: the numbers that were sent already. Return those that are sent now."""
    values = counters.values()
    if values != counted:
        connection.send(StoreCounted(tuple(value - before for value, before in zip(values, counted, strict=True))))
    return values


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


def _end_first() -> None:
    """Let Linux end this process before others if the memory is used up: only one call fails then, and not all of a worker."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        score = int(file.read())
        file.seek(0)
        file.write(str(min(1000, score + EARLIER)))


def run_process(descriptor: int, parent_pid: int) -> NoReturn:
    """Run the process, just after the fork. Args: descriptor: the socket to the worker. parent_pid: of the fork server."""
    status = 1
    try:
        die_with(parent_pid)
        _end_first()
        connection = Connection(socket.socket(fileno=descriptor))
        os.register_at_fork(after_in_child=connection.abandon)
        serve(connection)
        status = 0
        sys.stdout.flush()
    except BaseException:  # must not return to the fork server
        traceback.print_exc()
    finally:
        os._exit(status)  # threads of plugins must not keep the process
