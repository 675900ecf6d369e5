# SPDX-License-Identifier: Apache-2.0
"""The runner's log as it comes out of its process: lines for people, and in between what each plugin did to each call."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from apisix.gateway.display.report import PluginEffect

# The logger and the field of the runner's reports. Source: apisix/runner/worker/effects_log.py, which this layer does not import.
EFFECTS_LOGGER = "apisix.effects"
# What the runner says once of a configuration that it refuses. Source: apisix/runner/call/chains.py.
REFUSALS_LOGGER = "apisix.runner.call.chain_cache"
REFUSAL = re.compile(r"the plugins of (.+?) are refused, each of its calls fails: (.+)", re.DOTALL)
# What the runner says when new workers have replaced others. Source: apisix/runner/supervisor/worker_pool.py.
REPLACEMENTS_LOGGER = "apisix.runner.supervisor.worker_pool"
REPLACEMENT = re.compile(r".+: worker .+ in the place of worker .+", re.DOTALL)

# The runner writes its report before its answer, through another pipe: it is there at once, or there is none.
WAIT_S = 0.2
MAX_KEPT = 1000

Record = Mapping[str, Any]
K = TypeVar("K")
V = TypeVar("V")


class _Effect(msgspec.Struct):
    plugin: str
    took_s: float
    changes: tuple[str, ...] = ()
    stopped: int | None = None
    error: str | None = None


class _Told(msgspec.Struct):
    call_id: int
    effects: list[_Effect]


class RunnerLog:
    """
    Takes the runner's output line by line; an `EffectSource` for the gateway.

    Args: on_record: told each record of the log that is no report; a line that is no record comes as its `message`.
    Attributes: on_replaced: called when new workers have replaced others, before the record that says so is passed on.
    """

    def __init__(self, on_record: Callable[[Record], None]) -> None:
        self._on_record = on_record
        self.on_replaced: Callable[[], None] = lambda: None
        self._effects: OrderedDict[int, tuple[PluginEffect, ...]] = OrderedDict()
        self._refusals: OrderedDict[str, str] = OrderedDict()
        self._waiting: dict[int, asyncio.Event] = {}

    def line(self, line: bytes) -> None:
        """Take one line of output."""
        text = line.decode(errors="replace").rstrip("\r\n")
        try:
            record = msgspec.json.decode(text)
        except msgspec.DecodeError:
            record = None
        if not isinstance(record, dict) or "message" not in record:
            # Whatever a plugin prints.
            self._on_record({"message": text})
        elif record.get("logger") == EFFECTS_LOGGER:
            self._keep(record)
        else:
            if record.get("logger") == REFUSALS_LOGGER:
                self._keep_refusal(record)
            elif record.get("logger") == REPLACEMENTS_LOGGER and REPLACEMENT.fullmatch(str(record["message"])):
                self.on_replaced()
            self._on_record(record)

    async def take(self, call_id: int) -> Sequence[PluginEffect]:
        """Return what each plugin of a call did, and wait a moment for it; () where the runner said nothing."""
        if call_id not in self._effects:
            told = self._waiting.setdefault(call_id, asyncio.Event())
            try:
                async with asyncio.timeout(WAIT_S):
                    await told.wait()
            except TimeoutError:
                return ()
            finally:
                self._waiting.pop(call_id, None)
        return self._effects.pop(call_id, ())

    def refusal(self, key: str) -> str | None:
        """Return why all calls of a configuration are refused; None where the runner has not said so."""
        return self._refusals.get(key)

    def _keep(self, record: Record) -> None:
        try:
            told = msgspec.convert(record, _Told)
        except msgspec.ValidationError:
            self._on_record(record)
            return
        self._tell(told.call_id, tuple(_effect(effect) for effect in told.effects))

    def _keep_refusal(self, record: Record) -> None:
        if match := REFUSAL.fullmatch(str(record["message"])):
            key, reason = match.groups()
            _keep_newest(self._refusals, key, reason)
            if isinstance(call_id := record.get("call"), int):  # the one that found out; no report of it will come
                self._tell(call_id, ())

    def _tell(self, call_id: int, effects: tuple[PluginEffect, ...]) -> None:
        _keep_newest(self._effects, call_id, effects)
        if call_id in self._waiting:
            self._waiting[call_id].set()


def _keep_newest(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)


def _effect(told: _Effect) -> PluginEffect:
    stopped = () if told.stopped is None else (f"stopped with {told.stopped}",)
    return PluginEffect(told.plugin, told.took_s, (*told.changes, *stopped), told.error)
