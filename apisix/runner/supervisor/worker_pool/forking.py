# SPDX-License-Identifier: Apache-2.0
"""Fork a worker, which must not keep the supervisor's resources and never returns into its code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from apisix.runner.ipc.channel import Channel
from apisix.runner.supervisor.worker_pool.worker_process import WorkerProcess
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump

logger = logging.getLogger(__name__)

Body = Callable[[Channel, StackDump, Heartbeat, frozenset[str], int], int]
"""
The main function of a worker. Takes its channel, its stack dump, its heartbeat, the plugins that are known to block, and the pid of the
supervisor. Returns the exit status.
"""


def fork_worker(number: int, calls_limit: int, marks: frozenset[str], body: Body, forget: Callable[[], None]) -> WorkerProcess:
    """
    Start a worker.

    Args: marks: the plugins known to block. forget: called in the new process first, to close what belongs to the supervisor.
    Raises: OSError: no process, descriptor or memory is left.
    """
    ours, theirs = Channel.pair()
    try:
        dump = StackDump()
        heartbeat = Heartbeat()
        try:
            pid = _fork(lambda: _run_worker(ours, theirs, dump, heartbeat, marks, body, forget))
        except OSError:
            dump.close()
            heartbeat.close()
            raise
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return WorkerProcess(number, pid, ours, dump, heartbeat, calls_limit)


def _fork(in_child: Callable[[], NoReturn]) -> int:
    for stream in (sys.stdout, sys.stderr):  # otherwise both processes would write what is buffered
        if stream is not None:  # a daemon can be started without streams
            with suppress(OSError, ValueError):
                stream.flush()
    # A signal between the fork and the installation of the child's own handlers would be handled as a signal for the supervisor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            in_child()
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run_worker(
    ours: Channel, theirs: Channel, dump: StackDump, heartbeat: Heartbeat, marks: frozenset[str], body: Body, forget: Callable[[], None]
) -> NoReturn:
    status = 1
    try:
        supervisor_pid = os.getppid()
        ours.close()
        forget()
        status = body(theirs, dump, heartbeat, marks, supervisor_pid)
    except BaseException:
        logger.exception("a worker exits because of a defect of the runner")
    finally:
        # Not sys.exit: it waits for threads, which may be busy for a long time.
        logging.shutdown()
        os._exit(status)
