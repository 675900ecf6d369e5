# SPDX-License-Identifier: Apache-2.0
"""Parse the output of the runner's process: lines of its log, and records of calls."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from apisix.runner.records.format import CallRecord

# The logger of the runner's reports. Source: apisix/runner/worker/effects_log.py, which this layer does not import.
EFFECTS_LOGGER = "apisix.effects"
# The message that the runner logs once for a refused configuration. Source: apisix/runner/call/chain_cache.py.
REFUSALS_LOGGER = "apisix.runner.call.chain_cache"
REFUSAL = re.compile(r"the plugins of (.+?) are refused, each of its calls fails: (.+)", re.DOTALL)
# The message that the runner logs when new workers have replaced others. Source: apisix/runner/supervisor/worker_pool/pool.py.
REPLACEMENTS_LOGGER = "apisix.runner.supervisor.worker_pool.pool"
REPLACEMENT = re.compile(r".+: worker .+ in the place of worker .+", re.DOTALL)

# The runner writes its report before its reply, through another pipe, so it arrives within a moment or not at all.
WAIT_S = 0.2
MAX_KEPT = 1000

Record = Mapping[str, Any]
K = TypeVar("K")
V = TypeVar("V")


class RunnerLog:
    """
    Parses the runner's output line by line. Implements `RecordSource` for the gateway.

    Args: on_record: called with each line of the log that is not the record of a call. Other lines are passed as the `message` of a record.
    Attributes: on_replaced: called when new workers have replaced others, before the log record about it is passed on.
    """

    def __init__(self, on_record: Callable[[Record], None]) -> None:
        self._on_record = on_record
        self.on_replaced: Callable[[], None] = lambda: None
        self._calls: OrderedDict[int, CallRecord] = OrderedDict()
        self._refusals: OrderedDict[str, str] = OrderedDict()
        self._waiting: dict[int, asyncio.Event] = {}

    def line(self, line: bytes) -> None:
        """Parse one line of output."""
        text = line.decode(errors="replace").rstrip("\r\n")
        try:
            record = msgspec.json.decode(text)
        except msgspec.DecodeError:
            record = None
        if not isinstance(record, dict) or "message" not in record:
            # For example, output of a plugin.
            self._on_record({"message": text})
        elif record.get("logger") == EFFECTS_LOGGER:
            self._keep(record)
        else:
            if record.get("logger") == REFUSALS_LOGGER:
                self._keep_refusal(record)
            elif record.get("logger") == REPLACEMENTS_LOGGER and REPLACEMENT.fullmatch(str(record["message"])):
                self.on_replaced()
            self._on_record(record)

    async def take(self, call_id: int) -> CallRecord | None:
        """Return the record of a call. Wait a moment for it; return None if there is none."""
        if call_id not in self._calls:
            arrived = self._waiting.setdefault(call_id, asyncio.Event())
            try:
                async with asyncio.timeout(WAIT_S):
                    await arrived.wait()
            except TimeoutError:
                return None
            finally:
                self._waiting.pop(call_id, None)
        return self._calls.pop(call_id, None)

    def refusal(self, key: str) -> str | None:
        """Return why all calls of a configuration are refused; None if the runner has not reported this."""
        return self._refusals.get(key)

    def _keep(self, record: Record) -> None:
        try:
            call = msgspec.convert(record["record"], CallRecord)
        except (KeyError, msgspec.ValidationError):
            self._on_record(record)
            return
        self._deliver(call.call_id, call)

    def _keep_refusal(self, record: Record) -> None:
        if match := REFUSAL.fullmatch(str(record["message"])):
            key, reason = match.groups()
            _keep_newest(self._refusals, key, reason)

    def _deliver(self, call_id: int, call: CallRecord) -> None:
        _keep_newest(self._calls, call_id, call)
        if call_id in self._waiting:
            self._waiting[call_id].set()


def _keep_newest(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)
