# SPDX-License-Identifier: Apache-2.0
"""
Switch the recording of calls on and off in all workers, and write down what was recorded.

The package `recording` is imported late, because few runners record, and the socket has to be bound soon.
"""

import logging
import os
from typing import Final

from apisix.runner.errors import SettingsError
from apisix.runner.ipc.channel import Recorded
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool.pool import WorkerPool

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.1
"""How often to check whether all workers have written their last calls, in seconds."""


class RecordingSwitch:
    """Recording is on at first if the settings say so. Otherwise `toggle` switches it on."""

    def __init__(self, reactor: Reactor, settings: Settings, pool: WorkerPool) -> None:
        self._reactor = reactor
        self._settings = settings
        self._pool = pool
        self._written = self._dropped = 0
        self._changes = 0
        pool.on_recorded = self._recorded

    def begin(self) -> None:
        """Called when the runner starts. Log whether it records calls."""
        if self._pool.recording:
            self._log_on()

    def toggle(self) -> None:
        """Switch recording on or off. If the file can't be written, log why."""
        if self._pool.recording:
            self._pool.record(on=False)
            self._look()
            return
        from apisix.runner.recording.file import check_file

        try:
            check_file(self._settings)
        except SettingsError as error:
            logger.error("calls can't be recorded: %s", error)
            self._write_state(str(error))
            return
        self._written = self._dropped = 0
        self._pool.record(on=True)
        self._log_on()

    def close(self) -> None:
        """Called when the runner exits."""
        if self._changes:
            from apisix.runner.recording.state import remove_state

            remove_state(self._settings.socket_file, os.getpid())

    def _log_on(self) -> None:
        from apisix.runner.recording.file import path_of

        logger.info("calls are recorded in %s", path_of(self._settings))
        if not self._settings.record_redaction:
            logger.warning("record.redaction is false, so the passwords and tokens of requests are written to the file of records")
        self._write_state()

    def _recorded(self, message: Recorded) -> None:
        self._written += message.written
        self._dropped += message.dropped

    def _look(self) -> None:
        """Finish when all workers have written their last calls."""
        if self._pool.recording:  # it was switched on again
            return
        if self._pool.still_recording:
            self._reactor.call_later(LOOK_S, self._look)
            return
        from apisix.runner.recording.file import path_of

        dropped = f"; {self._dropped} could not be recorded" if self._dropped else ""
        logger.info("recording has stopped: %d calls are in %s%s", self._written, path_of(self._settings), dropped)
        self._write_state()

    def _write_state(self, error: str | None = None) -> None:
        from apisix.runner.recording.file import path_of
        from apisix.runner.recording.state import RecordingState, write_state

        self._changes += 1
        state = RecordingState(
            pid=os.getpid(),
            on=self._pool.recording,
            file=path_of(self._settings),
            written=self._written,
            dropped=self._dropped,
            error=error,
            changes=self._changes,
        )
        try:
            write_state(self._settings.socket_file, state)
        except OSError as error:
            logger.warning("`apisix-runner record` can't be used, because the state of the recording can't be written: %s", error)
