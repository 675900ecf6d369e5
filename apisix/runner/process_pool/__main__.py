# SPDX-License-Identifier: Apache-2.0
"""
The fork server of a pool. `fork_server.py` starts it, as `python -m apisix.runner.process_pool DESCRIPTOR PID MODULE...`.

It imports what all processes of the pool need, once, and then forks each of them. It never imports a plugin and has one thread only, so
that a fork is safe. It reports each process that it has forked or that has exited.

Args:
    DESCRIPTOR: the socket to the worker. Each byte comes with a descriptor: the socket of a new process.
    PID: the process id of the worker.
    MODULE: further modules to import.
"""

import errno
import gc
import importlib
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from apisix.runner.process_pool.hook_process import run_process
from apisix.runner.process_pool.lifetime import die_with
from apisix.runner.process_pool.messages import FORKED, REPORT


class ForkServer:
    """Forks processes on request. Args: sock: the socket to the worker."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._exits, self._on_exit = os.pipe()  # becomes readable with each SIGCHLD
        os.set_blocking(self._exits, False)
        os.set_blocking(self._on_exit, False)
        signal.set_wakeup_fd(self._on_exit, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def serve(self) -> None:
        """Fork processes until the worker closes its end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._exits, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._exits:
                    self._report_exits()
                    continue
                data, received, _, _ = socket.recv_fds(self._socket, 1, 1)
                if not data:
                    return
                self._fork(received)

    def _fork(self, received: list[int]) -> None:
        own_pid = os.getpid()
        try:
            pid = os.fork() if received else 0
        except OSError as error:
            self._report(0, error.errno or 0)
        else:
            if os.getpid() != own_pid:
                self._become(received[0], own_pid)
            self._report(pid, FORKED if pid else errno.EMFILE)  # the system drops a descriptor if the process has too many
        for each in received:
            os.close(each)

    def _become(self, descriptor: int, parent_pid: int) -> NoReturn:
        """Run a process of the pool, in a child."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._socket.close()
            os.close(self._exits)
            os.close(self._on_exit)
            run_process(descriptor, parent_pid)
        finally:
            os._exit(1)  # must never return to the loop of the fork server

    def _report_exits(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._exits, 4096)
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._report(found[0], os.waitstatus_to_exitcode(found[1]))

    def _report(self, pid: int, status: int) -> None:
        with suppress(OSError):  # the worker has exited, which `serve` finds out
            self._socket.sendall(REPORT.pack(pid, status))


def main() -> None:
    """Run the fork server."""
    descriptor, parent_pid = map(int, sys.argv[1:3])
    # Ctrl-C and a service manager signal all processes. This one ends when the worker does.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    die_with(parent_pid)
    os.set_inheritable(descriptor, False)  # the standard library's argument
    for name in sys.argv[3:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a process would otherwise copy the memory that all of them share
    ForkServer(socket.socket(fileno=descriptor)).serve()


if __name__ == "__main__":
    main()
