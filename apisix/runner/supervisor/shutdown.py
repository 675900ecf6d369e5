# SPDX-License-Identifier: Apache-2.0
"""
How a runner stops.

1. After a signal, it accepts connections and calls for a while, because the gateway may still send some, or a successor may take over.
2. Then it stops accepting. Workers finish the calls in progress, hand idle connections to a successor if there is one, and exit.
3. Shortly before the shutdown timeout, calls in progress are cut, and then workers that have not exited are killed.

A runner that the gateway manages has too little time to find out whether calls have ended. Instead, it takes the connections from its
workers halfway through, and keeps them for a successor. If none arrives in time, a copy of the process keeps them for a while longer.
Source: design, 7; gateway contract, 8.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.listening.acceptor import Acceptor
from apisix.runner.supervisor.worker_pool.pool import WorkerPool

logger = logging.getLogger(__name__)

MANAGED_TIMEOUT_S: Final = 0.9
"""The gateway kills a runner 1 s after SIGTERM. Source: gateway contract, 8."""
STANDALONE_TIMEOUT_S: Final = 30.0
MARGIN_SHARE: Final = 0.1
LONGEST_MARGIN_S: Final = 0.15
"""The share of the shutdown timeout that remains for cutting calls in progress, and again for killed workers to exit."""
QUIET_S: Final = 0.75
"""A stand-alone runner that is stopping exits when no call and no connection has arrived for this long, in seconds."""
QUIET_POLL_S: Final = 0.05
KEEP_SHARE: Final = 0.5
"""The share of the shutdown timeout after which a managed runner no longer serves, and keeps connections for a successor."""
KEEP_S: Final = 10.0
"""How long the connections of a managed runner are kept for a successor that has not taken the path in time, in seconds."""


class Shutdown:
    """
    Stops a runner.

    Attributes:
        stopping: whether the runner was told to stop, or has to, because no worker can serve.

    Args:
        gateway_pid: the gateway that has started this runner, None if none has.
        close_metrics: called in the copy of the process that keeps connections.
    """

    def __init__(
        self,
        reactor: Reactor,
        settings: Settings,
        acceptor: Acceptor,
        pool: WorkerPool,
        *,
        gateway_pid: int | None,
        close_metrics: Callable[[], None],
    ) -> None:
        self.stopping = False
        self._reactor = reactor
        self._settings = settings
        self._acceptor = acceptor
        self._pool = pool
        self._gateway_pid = gateway_pid
        self._close_metrics = close_metrics
        self._overdue = False  # the shutdown timeout is over
        self._keeping = False  # no worker serves any more, and connections are kept for a successor
        self._outlived = False  # whether this process is the copy that keeps them
        self._cut_s = 0.0  # when calls in progress are cut, by time.monotonic
        self._active = (0, 0.0)  # how many calls and connections were counted last, and when that number was new

    def on_signal(self, signum: int) -> None:
        """Stop because of a signal. The second one stops the runner immediately."""
        name = signal.Signals(signum).name
        if self.stopping:
            logger.warning("received %s again, so the runner stops at once", name)
            self._stop_keeping()
            self._stop_accepting()
            self._overdue = True
            self._pool.kill()
            return
        logger.info("%s: stopping", name)
        # After Ctrl-C, a person waits.
        accept_s = 0.0 if signum == signal.SIGINT else self._settings.stop_accepting_after_s
        self.begin(accept_s, age_s=self._reactor.signal_age_s(signum))

    def begin(self, accept_s: float, age_s: float = 0.0) -> None:
        """
        Exit within the shutdown timeout.

        Args:
            accept_s: how long to accept at most, in seconds.
            age_s: how long ago the runner was told to stop, in seconds. It may have been starting since.
        """
        self.stopping = True
        self._pool.wind_down()
        timeout_s = self._settings.shutdown_timeout_s
        if timeout_s is None:
            timeout_s = STANDALONE_TIMEOUT_S if self._gateway_pid is None else MANAGED_TIMEOUT_S
        timeout_s = max(0.0, timeout_s - age_s)
        margin_s = min(LONGEST_MARGIN_S, MARGIN_SHARE * timeout_s)
        until_cut_s = timeout_s - 2 * margin_s
        self._cut_s = time.monotonic() + until_cut_s
        self._reactor.call_later(until_cut_s, partial(self._cut_calls, margin_s))
        self._reactor.call_later(timeout_s - margin_s, self._kill_the_rest)
        if accept_s == 0.0:
            self._stop_accepting()
        elif self._gateway_pid is not None:
            self._reactor.call_later(KEEP_SHARE * timeout_s, self._keep)
        else:
            self._reactor.call_later(min(accept_s, until_cut_s), self._stop_accepting)
            self._reactor.call_every(QUIET_POLL_S, self._stop_if_quiet)

    def on_gateway_gone(self) -> None:
        """Stop because the gateway that manages this runner has ended."""
        if self._is_keeping:
            self._stop_keeping()
        elif not self._acceptor.leaving:
            logger.warning("the gateway (pid %s) has ended, so this runner exits", self._gateway_pid)
            self.begin(0.0)

    def is_over(self) -> bool:
        """Return whether the process can exit. Called in each iteration of the event loop."""
        if self._is_keeping and not self._outlived and not self._pool.workers:
            self._outlive()
        return self._acceptor.leaving and not self._pool.workers and (self._overdue or self._acceptor.handed_over)

    # Accepting, and then no longer

    def _stop_if_quiet(self) -> None:
        now_s = time.monotonic()
        seen = self._pool.calls + self._acceptor.accepted
        if seen != self._active[0] or self._pool.busy or not self._active[1]:
            self._active = (seen, now_s)
        elif now_s - self._active[1] >= QUIET_S:
            self._stop_accepting()

    def _stop_accepting(self) -> None:
        if self._acceptor.leaving:
            return
        self._acceptor.check_displaced()
        if not self._acceptor.hand_over():
            self._acceptor.leave()
            self._pool.stop(max(0.0, self._cut_s - time.monotonic()))

    # Keeping connections for a successor

    @property
    def _is_keeping(self) -> bool:
        return self._keeping and not self._acceptor.leaving

    def _keep(self) -> None:
        """Take the connections from the workers, and keep them and the socket for a successor that is late."""
        self._acceptor.check_displaced()
        if not self._acceptor.displaced and not self._acceptor.leaving:
            self._keeping = True
            self._pool.pass_all_to(self._acceptor.kept.append)

    def _outlive(self) -> None:
        """
        Fork a copy of this process, without workers, that keeps the connections, and exit.

        The gateway kills a runner soon after it has told it to stop, even if the successor does not listen yet, for example on a busy
        machine. The copy runs no plugin and sends no reply. Data that arrives on the connections meanwhile waits for the successor.
        """
        self._outlived = True
        try:
            if os.fork():
                self._pool.kill()
                logger.info("no other runner has taken the path yet, so its connections are kept for up to %g s. Stopped", KEEP_S)
                logging.shutdown()
                os._exit(0)
        except OSError as error:
            logger.error("the connections can't be kept for another runner: %s", error.strerror)
            self._stop_keeping()
            self._pool.kill()
            return
        # The pipes to the gateway belong to the process that it has started, which has ended.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        self._close_metrics()
        self._pool.abandon()
        self._overdue = False
        self._reactor.call_later(KEEP_S, self._stop_keeping)

    def _stop_keeping(self) -> None:
        if self._is_keeping:
            self._overdue = True
            self._acceptor.leave()

    # The end of the shutdown timeout

    def _cut_calls(self, timeout_s: float) -> None:
        if self._is_keeping:
            return  # connections that are kept must not be closed
        self._stop_accepting()
        if self._pool.workers:
            self._pool.stop(timeout_s)

    def _kill_the_rest(self) -> None:
        if self._is_keeping:
            if not self._outlived:
                self._outlive()
            return
        self._overdue = True
        self._acceptor.close_listener()
        if self._pool.workers:
            logger.warning("%d workers have not finished in time and are killed", len(self._pool.workers))
            self._pool.kill()
