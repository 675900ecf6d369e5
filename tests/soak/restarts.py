# SPDX-License-Identifier: Apache-2.0
"""Restarts under load: the old runner gets SIGTERM and its successor starts at the same moment, in many rounds."""

import asyncio
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from apisix.runner.supervisor.listening.credentials import peer_of
from tests.soak.pooled_calls import PooledCalls

PLUGINS = Path(__file__).parent / "plugins"
GATEWAY_KILLS_AFTER_S: Final = 1.0
"""Source: gateway contract, 8."""
STANDALONE_BOUND_S: Final = 20.0
STARTS_WITHIN_S: Final = 20.0
POLL_S: Final = 0.01
SETTLED: Final = 16
"""So few calls in progress mean that the runner keeps up with the load."""


class Restarts(msgspec.Struct):
    """
    The results of the calls.

    Attributes:
        answered: how many calls got a correct reply.
        failures: the number of each failure. Each of them would be a 503.
        longest_end_s: the longest time between SIGTERM and the end of the old runner.
        killed: how many old runners had not exited in time, and were killed as by the gateway.
        log: the log of all runners.
    """

    answered: int
    failures: Counter[str]
    longest_end_s: float
    killed: int
    log: str


def run(rounds: int, rate: float) -> bool:
    """Restart under load, managed and stand-alone, and print the results of the calls. Return True if no call was refused or lost."""
    clean = True
    for is_managed in (True, False):
        seen = restart_under_load(is_managed=is_managed, rounds=rounds, rate=rate)
        clean = clean and not seen.failures and not seen.killed
        print(
            f"{'managed' if is_managed else 'stand-alone'}: {rounds} restarts under {rate:g} calls a second:",
            f"{seen.answered:,} calls answered, {sum(seen.failures.values())} refused or lost;",
            f"old runners ended within {seen.longest_end_s:.2f} s, {seen.killed} were killed",
            flush=True,
        )
        for failure, count in seen.failures.most_common(10):
            print(f"- {count} times {failure[:200]}")
    return clean


def restart_under_load(
    *,
    is_managed: bool,
    rounds: int,
    rate: float,
    kill_after_s: float = GATEWAY_KILLS_AFTER_S,
    environ: Mapping[str, str] | None = None,
) -> Restarts:
    """
    Restart a runner `rounds` times while it is called `rate` times a second.

    Args:
        is_managed: restart as a reload of the gateway does. This process is the gateway then.
        kill_after_s: how long after SIGTERM a managed runner is killed, in seconds.
    """
    with tempfile.TemporaryDirectory(prefix="restarts-") as directory:
        name = f"apisix-{os.getpid()}.sock" if is_managed else "runner.sock"
        return uvloop.run(_restart(Path(directory, name), rounds, rate, kill_after_s if is_managed else STANDALONE_BOUND_S, environ or {}))


async def _restart(path: Path, rounds: int, rate: float, kill_after_s: float, environ: Mapping[str, str]) -> Restarts:
    log = path.with_name("log")
    runner = await _start(path, log, environ)
    calls = PooledCalls(path, rate)
    longest_end_s = 0.0
    killed = 0
    calling: asyncio.Task[None] | None = None
    try:
        await _listening(path, runner)
        calling = asyncio.create_task(calls.run())
        for _ in range(rounds):
            await _answered(calls, int(rate / 2))
            old, began_s = runner, asyncio.get_running_loop().time()
            old.send_signal(signal.SIGTERM)
            runner = await _start(path, log, environ)
            try:
                async with asyncio.timeout(kill_after_s):
                    await old.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):  # it has just ended
                    old.kill()
                    killed += 1
                await old.wait()
            longest_end_s = max(longest_end_s, asyncio.get_running_loop().time() - began_s)
            await _listening(path, runner)
        await _answered(calls, int(rate / 2))
        calls.end()
        await calling
    finally:
        if calling is not None:
            calling.cancel()
        with suppress(ProcessLookupError):
            runner.kill()
        await runner.wait()
    return Restarts(calls.answered, calls.failures, longest_end_s, killed, log.read_text())


async def _start(path: Path, log: Path, environ: Mapping[str, str]) -> asyncio.subprocess.Process:
    arguments = ["-m", "apisix", "start", "--socket", str(path), "--plugins", str(PLUGINS)]
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stderr=stderr, env={**os.environ, **environ}
        )


async def _listening(path: Path, runner: asyncio.subprocess.Process) -> None:
    """Return when the path leads to `runner`."""
    async with asyncio.timeout(STARTS_WITHIN_S):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(path)
                pid = peer_of(writer.get_extra_info("socket")).pid
                writer.close()
                if pid == runner.pid:
                    return
            assert runner.returncode is None, "the runner has ended"
            await asyncio.sleep(POLL_S)


async def _answered(calls: PooledCalls, more: int) -> None:
    """Return when `more` further calls have ended in any way. These include the calls that waited for the last restart."""
    seen = calls.answered + sum(calls.failures.values())
    async with asyncio.timeout(STARTS_WITHIN_S):
        while calls.answered + sum(calls.failures.values()) < seen + more or calls.in_progress > SETTLED:  # noqa: ASYNC110  # the load turns the same loop
            await asyncio.sleep(POLL_S)
