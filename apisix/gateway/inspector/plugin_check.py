# SPDX-License-Identifier: Apache-2.0
"""
The JSON Schemas of plugins, and the problems of configurations.

This process must not import plugins: a mistake in one of them could end it, and a changed file would not be loaded again. So a child
process loads them. Its results are kept until plugins are reloaded.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from apisix.gateway.inspector.server import ApiError

TIMEOUT_S: Final = 30.0
"""The time limit of the child process, which imports all plugins."""
MAX_KEPT: Final = 1000

Entry = tuple[str, str, str]
"""The phase, the name of the plugin, and its configuration."""


class _Result(msgspec.Struct):
    """The output of `apisix/cli/routes/for_inspector.py`."""

    schemas: dict[str, dict[str, Any]]
    problems: list[list[str]]


class PluginCheck:
    """
    Loads plugins in a child process.

    Args: arguments: returns the flags that name the plugins.
    Attributes: on_forget: called when plugins were reloaded.
    """

    def __init__(self, arguments: Callable[[], Sequence[str]]) -> None:
        self._arguments = arguments
        self.on_forget: Callable[[], None] = lambda: None
        self._lock = asyncio.Lock()
        self._schemas: dict[str, dict[str, Any]] | None = None
        self._problems: dict[Entry, list[str]] = {}
        self._reloads = 0

    def forget(self) -> None:
        """Called when plugins were reloaded: forget all results."""
        self._reloads += 1
        self._schemas = None
        self._problems.clear()
        self.on_forget()

    async def schemas(self) -> dict[str, dict[str, Any]]:
        """
        Return the JSON Schemas of all plugins by name.

        Raises: ApiError: the child process failed.
        """
        async with self._lock:
            return (await self._check([])).schemas if self._schemas is None else self._schemas

    async def problems(self, entries: Sequence[Entry]) -> list[list[str]]:
        """
        Return the problems of each configuration.

        Raises: ApiError: the child process failed.
        """
        async with self._lock:
            unknown = [entry for entry in dict.fromkeys(entries) if entry not in self._problems]
            found = dict(self._problems)
            if unknown:
                found |= zip(unknown, (await self._check(unknown)).problems, strict=True)
            return [found[entry] for entry in entries]

    async def _check(self, entries: Sequence[Entry]) -> _Result:
        reloads = self._reloads
        output = await _output([sys.executable, "-m", "apisix.cli.routes.for_inspector", *self._arguments()], msgspec.json.encode(entries))
        try:
            result = msgspec.json.decode(output, type=_Result)
        except msgspec.DecodeError:
            raise ApiError(500, "the plugins could not be loaded to validate configurations; `apisix-runner check` shows why") from None
        if reloads == self._reloads:  # otherwise plugins have changed meanwhile, so the result is not kept
            self._schemas = result.schemas
            if len(self._problems) + len(entries) > MAX_KEPT:
                self._problems.clear()
            self._problems |= zip(entries, result.problems, strict=True)
        return result


async def _output(command: Sequence[str], given: bytes) -> bytes:
    """Return the standard output of a process. End it after `TIMEOUT_S`."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate(given)
            return output
    except TimeoutError:
        raise ApiError(504, f"the plugins could not be imported within {TIMEOUT_S:g} s to validate configurations") from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
