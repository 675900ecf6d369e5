# SPDX-License-Identifier: Apache-2.0
"""The runner as a child process of the gateway: start, watch, restart and stop it. Source: gateway contract, 8."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from apisix.runner.records import redaction

RESPAWN_DELAY_S = 3.0
# APISIX kills the runner after 1 s. This is longer, so that the last log lines are shown on a slow machine too.
STOP_TIMEOUT_S = 3.0

LINE_BYTES = 8 * 1024 * 1024
# The runner reports what each plugin did as JSON lines on its standard error, regardless of the settings for a log file. Output of plugins
# is not buffered.
REPORTING = {
    "APISIX_RUNNER_LOGGING_EFFECTS": "true",
    "APISIX_RUNNER_LOGGING_FORMAT": "json",
    "APISIX_RUNNER_LOGGING_FILE": "/dev/stderr",
    "PYTHONUNBUFFERED": "1",
}

# The longest time that settings allow, so that nothing ends while a person debugs.
A_YEAR = "31536000"
DEBUGGING = {
    "APISIX_DEV_DEBUG": "1",
    "APISIX_RUNNER_WORKERS_COUNT": "1",
    **dict.fromkeys(
        (
            "APISIX_RUNNER_WORKERS_TIMEOUT",
            "APISIX_RUNNER_WORKERS_SHUTDOWN_TIMEOUT",
            "APISIX_RUNNER_LIMITS_PLUGIN_TIMEOUT",
            "APISIX_RUNNER_LIMITS_INFO_TIMEOUT",
            "APISIX_RUNNER_LIMITS_READ_TIMEOUT",
            "APISIX_RUNNER_LIMITS_SEND_TIMEOUT",
        ),
        A_YEAR,
    ),
}

START_TIMEOUT_S = 10.0
LOOK_INTERVAL_S = 0.02
LAST_WORDS_S = 0.5


class RunnerNotStarted(Exception):
    """The runner ended before it listened, or did not listen in time."""


class RunnerProcess:
    """
    Runs `python -m apisix start` on a socket.

    Args:
        socket: the path on which the runner listens. If it is `apisix-<pid>.sock` with the pid of this process, the runner ends with it.
        arguments: further arguments of `start`.
        on_line: called with each line of output. Standard output and standard error are one stream, as in APISIX.
        on_exit: called with the exit status when the runner ends by itself.
        debug: whether plugins may open a prompt on the terminal. The runner then stays in the foreground, without time limits.
        debugpy: the address and port on which debugpy waits for an editor, None if it is not used.
    """

    def __init__(
        self,
        socket: str,
        arguments: Sequence[str],
        on_line: Callable[[bytes], None],
        on_exit: Callable[[int], None],
        *,
        debug: bool = False,
        debugpy: str | None = None,
    ) -> None:
        self._socket = socket
        self._arguments = tuple(arguments)
        self._on_line = on_line
        self._on_exit = on_exit
        self._debug = debug
        self._interpreter = [sys.executable] if debugpy is None else [sys.executable, "-m", "debugpy", "--listen", debugpy]
        self._readers: set[asyncio.Task[None]] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The runner's process id."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """
        Start the runner and return as soon as it accepts connections.

        Raises: RunnerNotStarted: the runner ended, or did not listen in time.
        """
        self._process = await self._spawn()
        self._watch = asyncio.create_task(self._respawn(self._process))

    async def replace(self, arguments: Sequence[str], on_replaced: Callable[[], None]) -> None:
        """
        Start another runner with other arguments. It takes over the path. Then stop the old runner.

        Args: on_replaced: called when the new runner listens, before the old one has ended.
        Raises: RunnerNotStarted: the new runner did not start; the old one continues.
        """
        old, before, self._arguments = self._process, self._arguments, tuple(arguments)
        try:
            self._process = await self._spawn()
        except RunnerNotStarted:
            self._arguments = before
            raise
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.create_task(self._respawn(self._process))
        on_replaced()
        if old is not None:
            await _end(old)

    async def stop(self) -> None:
        """Stop the runner with SIGTERM, or with SIGKILL if that takes too long."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._process is not None:
            await _end(self._process)
        # Its last output is still read. The pipe may stay open, if a plugin started a process that is still running.
        if self._readers:
            await asyncio.wait(self._readers, timeout=LAST_WORDS_S)
        for reader in self._readers:
            reader.cancel()

    async def _spawn(self) -> asyncio.subprocess.Process:
        before = self._inode()
        process = await asyncio.create_subprocess_exec(
            *self._interpreter,
            "-m",
            "apisix",
            "start",
            "--socket",
            self._socket,
            *self._arguments,
            # Plugins under development may need the author's environment. APISIX passes an almost empty one.
            env={
                **os.environ,
                **REPORTING,
                **(DEBUGGING if self._debug else {}),
                "APISIX_LISTEN_ADDRESS": f"unix:{self._socket}",
                "APISIX_CONF_EXPIRE_TIME": "3600",
                redaction.KEY_VARIABLE: redaction.key(),
            },
            # Ctrl-C must reach only this process, which stops the runner. For a debugger, the runner must be in the foreground.
            process_group=None if self._debug else 0,
            stdin=None if self._debug else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES,
        )
        reader = asyncio.create_task(self._read(process))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                # The runner binds another name and renames it, so a new inode at the path means that it listens.
                while self._inode() in (None, before):
                    if process.returncode is not None:
                        raise RunnerNotStarted(f"the runner ended during start-up with status {process.returncode}")
                    await asyncio.sleep(LOOK_INTERVAL_S)
        except TimeoutError as error:
            await _end(process)
            raise RunnerNotStarted(f"the runner does not listen on {self._socket} after {START_TIMEOUT_S:g} s") from error
        except BaseException:
            await _end(process)
            raise
        return process

    async def _respawn(self, process: asyncio.subprocess.Process) -> None:
        while True:
            self._on_exit(await process.wait())
            await asyncio.sleep(RESPAWN_DELAY_S)
            with suppress(RunnerNotStarted):
                self._process = process = await self._spawn()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  # it was requested above
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than LINE_BYTES: asyncio has discarded it
                continue
            if not line:
                return
            self._on_line(line)

    def _inode(self) -> int | None:
        try:
            return os.stat(self._socket).st_ino
        except OSError:
            return None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        # Its workers are in its process group, unless that is also the group of this process; then they end by themselves.
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        await process.wait()
