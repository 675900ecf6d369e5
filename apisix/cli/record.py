# SPDX-License-Identifier: Apache-2.0
"""The command `record`: let a running runner record its calls for some time."""

import os
import signal
import socket
import sys
import time
from typing import Final

import click

from apisix.cli.health import socket_path
from apisix.cli.options.flags import CommandError, setting_flags
from apisix.runner.errors import SettingsError
from apisix.runner.recording.state import RecordingState, read_state
from apisix.runner.supervisor.listening.credentials import Peer, peer_of

PATIENCE_S: Final = 30.0
"""How long the runner may take to switch recording on or off, in seconds."""
POLL_S: Final = 0.05


@click.command()
@setting_flags(["socket_file"])
@click.option(
    "--seconds", metavar="N", type=click.FloatRange(0, 86_400, min_open=True), default=10.0, show_default=True, help="How long to record."
)
def record(seconds: float, **flags: object) -> None:
    """
    Record the calls of a running runner, and print where the records are.

    The settings record.* of the runner decide which calls are recorded, and in which file. Run this command as the user of the runner, or
    as root. Ctrl-C ends the recording early.
    """
    try:
        path = socket_path(flags, os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    runner = _Runner(path)
    if (state := runner.state()) is not None and state.on:
        raise click.ClickException(f"the runner on {path} is recording already, in {state.file}")
    state = runner.switch()
    click.echo(f"recording in {state.file} for {seconds:g} s", err=True)
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        click.echo("", err=True)
    if (state := runner.state()) is None or not state.on:
        raise click.ClickException("recording was switched off by somebody else, or the runner has exited")
    state = runner.switch()
    dropped = f"; {state.dropped} could not be recorded" if state.dropped else ""
    click.echo(f"{state.file}: {state.written} calls{dropped}")


class _Runner:
    """The runner that listens on a socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._peer = _peer(path)

    def state(self) -> RecordingState | None:
        """Return the state of its recording, None if it has not recorded yet."""
        try:
            return read_state(self._path, self._peer.pid, self._peer.uid)
        except OSError as error:
            raise click.ClickException(f"the state of the recording can't be read: {error}. Run this as the user of the runner") from error

    def switch(self) -> RecordingState:
        """Switch recording on or off, and return the new state when that is done."""
        before = self.state()
        try:
            os.kill(self._peer.pid, signal.SIGUSR1)
        except OSError as error:
            message = f"the runner (pid {self._peer.pid}) can't be signalled: {error.strerror}. Run this as the user of the runner"
            raise click.ClickException(message) from error
        deadline_s = time.monotonic() + PATIENCE_S
        while (state := self.state()) is None or (before is not None and state.changes == before.changes):
            if time.monotonic() > deadline_s:
                raise click.ClickException(f"the runner (pid {self._peer.pid}) has not switched its recording; its log has the reason")
            time.sleep(POLL_S)
        if state.error is not None:
            raise click.ClickException(state.error)
        return state


def _peer(path: str) -> Peer:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(path)
            peer = peer_of(connection)
        except OSError as error:
            raise click.ClickException(f"no runner can be reached on {path}: {error.strerror or error}. Use --socket") from error
    if peer.pid == 0 or sys.platform != "linux":
        raise click.ClickException("this system does not report which process listens. Send SIGUSR1 to the runner instead")
    return peer
