# SPDX-License-Identifier: Apache-2.0
"""Record the calls of a worker: the listener in the event loop, and the thread that makes and writes the records."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.call.observing.trace import CallListener, CallTrace
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.recording.budget import CpuBudget, cpu_clock_of_this_thread
from apisix.runner.recording.file import Entry, RotatingFile, path_of, reason_of
from apisix.runner.recording.selection import Selection
from apisix.runner.settings.table import Settings
from apisix.runner.wire.call_messages import CallReq

logger = logging.getLogger(__name__)

MAX_QUEUED: Final = 1000
"""How many calls can wait for the thread."""
MAX_QUEUED_BYTES: Final = 16 * 2**20
"""How many bytes the bodies of these calls can have."""
COLLECT_S: Final = 0.05
"""How long the thread waits for further calls after the first one, in seconds, so that it is not woken up for each."""
MAX_BATCH: Final = 64
"""How many calls are written at once."""
PAUSE_CALLS: Final = 16
"""How many calls of the sample are dropped without being asked for if the queue is full."""
LOG_DROPPED_S: Final = 10.0
"""How often it is logged that calls were not recorded, in seconds."""


class Counts(NamedTuple):
    """How many calls were written, and how many were dropped, because they could not be made or written in time."""

    written: int
    dropped: int


def sum_of(counts: Iterable[Counts]) -> Counts:
    """Return the sums."""
    written, dropped = 0, 0
    for count in counts:
        written += count.written
        dropped += count.dropped
    return Counts(written, dropped)


class Recorder(CallListener):
    """
    Records calls of a worker while it is on. All methods are called in the event loop's thread.

    Args:
        settings: the settings `record.*`.
        on_failure: called in the writing thread if it can't write any more. The recorder records nothing then, until it is started again.
    """

    def __init__(self, settings: Settings, on_failure: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._settings = settings
        self._on_failure = on_failure
        self._selection = Selection(settings)
        self._pause = 0  # how many calls are skipped in a pause, of which PAUSE_CALLS are dropped; 0 if there is no pause
        self._writer: _Writer | None = None
        self._ended: list[_Writer] = []  # those of earlier recordings, which may still be writing
        self._earlier = Counts(0, 0)

    @property
    def counts(self) -> Counts:
        """How many calls were written and dropped so far, in all recordings of this worker."""
        writers = self._ended if self._writer is None else [*self._ended, self._writer]
        return sum_of([self._earlier, *(writer.counts for writer in writers), Counts(0, self._dropped_in_pause())])

    def start(self, on_end: Callable[[Counts], None] = lambda counts: None) -> None:
        """
        Begin to record, unless the recorder is on.

        Args: on_end: called in the writing thread when this recording was stopped and everything is written, with its counts.
        """
        if self._writer is None:
            done = [writer for writer in self._ended if not writer.thread.is_alive()]
            self._earlier = sum_of([self._earlier, *(writer.counts for writer in done)])
            self._ended = [writer for writer in self._ended if writer not in done]
            self._writer = _Writer(self._settings, self._on_failure, on_end)
            self.skip = self._selection.gap()

    def stop(self) -> bool:
        """Record no further calls. Those that have ended are still written. Return False if the recorder was off."""
        if self._writer is None:
            return False
        self._end_pause(self._writer)
        self._writer.finish()
        self._ended.append(self._writer)
        self._writer = None
        return True

    def close(self, timeout_s: float) -> None:
        """Record no further calls, and wait for up to `timeout_s` seconds until all are written. Log how many are not."""
        self.stop()
        end_s = time.monotonic() + timeout_s
        for writer in self._ended:
            writer.thread.join(max(0.0, end_s - time.monotonic()))
        if lost := sum(writer.waiting for writer in self._ended if writer.thread.is_alive()):
            logger.warning("%d calls were not recorded, because the worker had to exit before they were written", lost)

    def abandon(self) -> None:
        """Called in a child process, which has no writing thread: record nothing."""
        self._writer = None
        self._ended.clear()

    def call_begins(self, message: CallReq, chain: Chain) -> bool:
        """Called for the calls in the sample. Return True if the call is selected, and there is room for it in the queue."""
        writer = self._writer
        if writer is None or writer.failed:
            return False
        self._end_pause(writer)
        self.skip = self._selection.gap()
        if not self._selection.selects(chain):
            return False
        # Failures are few, and it is not known yet whether this call will be one.
        if self._settings.record_only_failures or writer.has_room():
            return True
        writer.drop(1)
        if self._selection.selects_all:  # only then all calls of the sample that are skipped are dropped ones
            self._pause = self.skip = self._selection.gap(PAUSE_CALLS)
        return False

    def _end_pause(self, writer: "_Writer") -> None:
        if self._pause:
            writer.drop(self._dropped_in_pause())
            self._pause = self.skip = 0

    def _dropped_in_pause(self) -> int:
        """Return how many calls were dropped in this pause, about as many as are in the sample."""
        return round(PAUSE_CALLS * (self._pause - self.skip) / self._pause) if self._pause else 0

    def ended(self, trace: CallTrace) -> None:
        """Put the call into the queue, if it is selected."""
        if self._writer is not None and self._selection.wants(trace):
            self._writer.put(trace)


class _Writer:
    """The thread that makes and writes the records of one recording, and its queue."""

    def __init__(self, settings: Settings, on_failure: Callable[[], None], on_end: Callable[[Counts], None]) -> None:
        self.failed = False
        self._path = path_of(settings)
        self._file = RotatingFile(self._path, settings.record_max_bytes, settings.record_files)
        self._maker = RecordMaker(settings.record_body_limit, settings.record_redact, redacts=settings.record_redaction)
        self._share = settings.record_cpu_share
        self._loop_clock = cpu_clock_of_this_thread()
        self._on_failure = on_failure
        self._on_end = on_end
        self._queue: queue.SimpleQueue[tuple[CallTrace, int] | None] = queue.SimpleQueue()
        self._finishing = threading.Event()
        # Each number is changed by one of the two threads only.
        self._refused = self._bytes_in = 0
        self._written = self._failures = self._bytes_out = 0
        self._logged = 0
        self._logged_s = time.monotonic()
        self.thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.thread.start()

    @property
    def counts(self) -> Counts:
        """How many calls were written and dropped so far."""
        return Counts(self._written, self._refused + self._failures)

    @property
    def waiting(self) -> int:
        """How many calls wait to be written."""
        return self._queue.qsize()

    # Called in the event loop's thread.

    def has_room(self) -> bool:
        """Return True if the queue has room for another call."""
        return self._queue.qsize() < MAX_QUEUED and self._bytes_in - self._bytes_out < MAX_QUEUED_BYTES

    def drop(self, calls: int) -> None:
        """Count calls that are not recorded."""
        self._refused += calls

    def put(self, trace: CallTrace) -> None:
        """Put a call into the queue, if it has room. If not, count it as dropped."""
        if self.failed:
            return
        if not self.has_room():
            self.drop(1)
        else:
            size = body_bytes(trace)
            self._bytes_in += size
            self._queue.put((trace, size))

    def finish(self) -> None:
        """Let the thread write what is in the queue, without a limit of its processor time, and end."""
        self._finishing.set()
        self._queue.put(None)

    # Called in the writing thread.

    def _run(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            self._fail("records can't be written to %s any more, so recording is off in this worker: %s", self._path, reason_of(error))
        except Exception:
            self._fail("records can't be written to %s any more, so recording is off in this worker", self._path, exc_info=True)
        finally:
            self._file.close()
        self._finishing.wait()
        self._on_end(self.counts)

    def _write_all(self) -> None:
        budget = CpuBudget(self._share, loop_clock=self._loop_clock)
        while True:
            first = self._queue.get()
            self._finishing.wait(COLLECT_S)
            done = first is None or self._write_batches(first, budget)
            self._log_dropped(is_last=done)
            if done:
                return

    def _write_batches(self, item: tuple[CallTrace, int] | None, budget: CpuBudget) -> bool:
        """Write what is in the queue. Return True if the recording is over."""
        entries: list[Entry] = []
        while item is not None:
            trace, size = item
            if (entry := self._entry(trace)) is not None:
                entries.append(entry)
            item = trace = None  # type: ignore[assignment]  # it may refer to large bodies
            self._bytes_out += size
            wait_s = budget.wait_s()
            if wait_s > COLLECT_S or len(entries) >= MAX_BATCH:
                self._write(entries)
                self._log_dropped()
            if wait_s > 0:
                self._finishing.wait(wait_s)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                self._write(entries)
                return False
        self._write(entries)
        return True

    def _entry(self, trace: CallTrace) -> Entry | None:
        try:
            return Entry(self._maker.configuration(trace.chain), self._maker.encode(trace))
        except Exception:  # values of plugins can be of any type
            self._failures += 1
            logger.exception("a call could not be recorded")
            return None

    def _write(self, entries: list[Entry]) -> None:
        """Write entries, and clear the list."""
        if entries:
            try:
                self._file.write(entries)
            except OSError:
                self._failures += len(entries)
                raise
            self._written += len(entries)
            entries.clear()

    def _log_dropped(self, *, is_last: bool = False) -> None:
        """Log how many calls were not recorded, if there were any since it was logged last."""
        now_s = time.monotonic()
        if not is_last and now_s - self._logged_s < LOG_DROPPED_S:
            return
        dropped = self.counts.dropped
        if dropped > self._logged:
            logger.warning(
                "%d calls were not recorded, because records are made too slowly. Select fewer calls with record.sample, record.routes, "
                "record.plugins or record.only_failures, or let record.cpu_share allow more processor time",
                dropped - self._logged,
            )
        self._logged_s, self._logged = now_s, dropped

    def _fail(self, message: str, *arguments: object, exc_info: bool = False) -> None:
        self.failed = True
        logger.error(message, *arguments, exc_info=exc_info)
        with suppress(queue.Empty):
            while True:
                self._failures += self._queue.get_nowait() is not None
        self._on_failure()


def body_bytes(trace: CallTrace) -> int:
    """Return about how many bytes a trace keeps in memory: those of its bodies and variables."""
    size = 0
    for info in trace.info:
        if info.reply is not None:
            size += len(info.reply)
    for step in trace.steps:
        body = step.after.assigned_body
        if body is not None and body is not step.before.assigned_body:
            size += len(body)
    return size
