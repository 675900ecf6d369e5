# SPDX-License-Identifier: Apache-2.0
"""The recorder writes what the settings select, and counts what it can't write, without delaying a call."""

import logging
import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.recording import recorder as recording
from apisix.runner.recording.budget import CpuBudget
from apisix.runner.recording.recorder import Counts, Recorder
from apisix.runner.recording.selection import Selection, names_of_route
from apisix.runner.records.format import ConfigurationRecord
from apisix.runner.settings.table import Settings

JOIN_S = 10.0
KEY = "route#r1#ext-plugin-pre-req#7"


class Maker:
    """Makes a line of a trace, once `gate` is set."""

    gate = threading.Event()

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def configuration(self, chain: Any) -> ConfigurationRecord:
        return ConfigurationRecord(digest="1" * 32, plugins=[])

    def encode(self, trace: Any) -> bytes:
        assert self.gate.wait(JOIN_S)
        if trace.call_id < 0:
            raise ValueError("a value that can't be recorded")
        return b"%d" % trace.call_id


def trace(call_id: int, *, body: bytes = b"", error: object = None) -> Any:
    info = [SimpleNamespace(reply=body)]
    return SimpleNamespace(call_id=call_id, chain=CHAIN, info=info, logs=[], steps=[], error=error, reply=None)


def is_wanted(recorder: Recorder) -> bool:
    """Return True if a call that begins now is traced. Same as `CallObserver.begin`, which only the engine can call."""
    if recorder.skip > 0:
        recorder.skip -= 1
        return False
    return recorder.call_begins(MESSAGE, CHAIN)


CHAIN: Any = SimpleNamespace(configuration=RouteConfiguration(KEY, (("a", "{}"), ("b", "{}"))))
MESSAGE: Any = None


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(recording, "RecordMaker", Maker)
    monkeypatch.setattr(Maker, "gate", threading.Event())
    return Settings(record_file=str(tmp_path / "calls.jsonl"))


def written(settings: Settings) -> list[bytes]:
    """Return the lines of the calls."""
    assert settings.record_file is not None
    return [line for line in Path(settings.record_file).read_bytes().splitlines() if line.isdigit()]


def test_calls_are_written_in_order_after_it_was_stopped(settings: Settings) -> None:
    counts: list[Counts] = []
    recorder = Recorder(settings)
    recorder.start(counts.append)
    for number in range(200):
        assert recorder.call_begins(MESSAGE, CHAIN) is True
        recorder.ended(trace(number))
    assert recorder.stop() is True
    Maker.gate.set()
    recorder.close(JOIN_S)

    assert written(settings) == [b"%d" % number for number in range(200)]
    assert counts == [Counts(200, 0)]


def test_it_wants_nothing_while_it_is_off(settings: Settings) -> None:
    recorder = Recorder(settings)
    assert recorder.stop() is False
    assert recorder.call_begins(MESSAGE, CHAIN) is False

    recorder.start()
    recorder.stop()
    recorder.ended(trace(1))
    recorder.close(JOIN_S)

    assert recorder.call_begins(MESSAGE, CHAIN) is False
    assert recorder.counts == Counts(0, 0)


def test_counts_of_earlier_recordings_are_added(settings: Settings) -> None:
    Maker.gate.set()
    recorder = Recorder(settings)
    for number in range(3):
        recorder.start()
        recorder.ended(trace(number))
        recorder.close(JOIN_S)

    assert recorder.counts == Counts(3, 0)
    assert written(settings) == [b"0", b"1", b"2"]


def test_if_the_queue_is_full_calls_are_not_traced_but_counted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording, "MAX_QUEUED", 5)
    recorder = Recorder(settings)
    recorder.start()
    for number in range(50):
        if is_wanted(recorder):
            recorder.ended(trace(number))
    before = recorder.counts
    Maker.gate.set()
    with caplog.at_level(logging.WARNING):
        recorder.close(JOIN_S)

    counts = recorder.counts
    assert counts.dropped == before.dropped
    assert counts.written + counts.dropped == 50
    assert counts.written in (5, 6)  # the thread may have taken one out of the queue
    assert f"{counts.dropped} calls were not recorded" in caplog.text


def test_if_the_queue_is_full_the_sample_is_not_asked_for_each_call(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of the sample that are skipped in a pause are counted, about as many as there are."""
    monkeypatch.setattr(recording, "MAX_QUEUED", 0)
    recorder = Recorder(msgspec.structs.replace(settings, record_sample=0.1))
    recorder.start()
    offered = 0
    for _ in range(20_000):
        offered += recorder.skip == 0
        assert is_wanted(recorder) is False
    Maker.gate.set()
    recorder.close(JOIN_S)

    assert recorder.counts.dropped == pytest.approx(2000, rel=0.2)
    assert offered == pytest.approx(2000 / (recording.PAUSE_CALLS + 1), rel=0.3)


def test_a_call_is_recorded_after_each_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if waking up has used what the thread may use, as on a slow machine with a busy event loop."""
    monkeypatch.setattr(CpuBudget, "wait_s", lambda self: 0.001)
    made: queue.SimpleQueue[int] = queue.SimpleQueue()

    def encode(self: Maker, trace: Any) -> bytes:
        made.put(trace.call_id)
        return b"a line"

    monkeypatch.setattr(Maker, "encode", encode)
    recorder = Recorder(settings)
    recorder.start()
    recorder.ended(trace(1))
    recorder.ended(trace(2))
    before_the_end = [made.get(timeout=JOIN_S), made.get(timeout=JOIN_S)]  # after it, there is no limit
    recorder.close(JOIN_S)

    assert before_the_end == [1, 2]


def test_large_bodies_fill_the_queue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_QUEUED_BYTES", 1000)
    recorder = Recorder(settings)
    recorder.start()
    recorder.ended(trace(1, body=bytes(1000)))
    assert recorder.call_begins(MESSAGE, CHAIN) is False
    Maker.gate.set()
    recorder.close(JOIN_S)

    assert recorder.counts == Counts(1, 1)


def test_a_call_that_cannot_be_recorded_does_not_end_the_recording(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    Maker.gate.set()
    recorder = Recorder(settings)
    recorder.start()
    for number in (1, -1, 2):
        recorder.ended(trace(number))
    recorder.close(JOIN_S)

    assert written(settings) == [b"1", b"2"]
    assert recorder.counts == Counts(2, 1)
    assert "a call could not be recorded" in caplog.text


def test_if_the_file_cannot_be_written_the_recording_ends(tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    Maker.gate.set()
    failed = threading.Event()
    counts: list[Counts] = []
    recorder = Recorder(Settings(record_file=str(tmp_path / "missing" / "calls.jsonl")), failed.set)
    recorder.start(counts.append)
    recorder.ended(trace(1))
    assert failed.wait(JOIN_S)
    assert recorder.call_begins(MESSAGE, CHAIN) is False
    recorder.ended(trace(2))
    recorder.close(JOIN_S)

    assert counts == [Counts(0, 1)]
    assert "No such file or directory" in caplog.text


def test_records_that_are_not_written_in_time_are_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(settings)
    recorder.start()
    for number in range(3):
        recorder.ended(trace(number))
    recorder.close(0.0)
    Maker.gate.set()
    recorder.close(JOIN_S)

    assert "calls were not recorded, because the worker had to exit" in caplog.text


def test_a_child_process_records_nothing(settings: Settings) -> None:
    Maker.gate.set()
    recorder = Recorder(settings)
    recorder.start()
    recorder.abandon()

    assert recorder.call_begins(MESSAGE, CHAIN) is False


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, True),
        ({"record_sample": 0.0}, False),
        ({"record_routes": ("r1",)}, True),
        ({"record_routes": (KEY,)}, True),
        ({"record_routes": ("r2", "7")}, False),
        ({"record_plugins": ("b", "c")}, True),
        ({"record_plugins": ("c",)}, False),
        ({"record_routes": ("r1",), "record_plugins": ("c",)}, False),
    ],
)
def test_routes_and_plugins_are_selected(options: dict[str, Any], wanted: bool) -> None:
    selection = Selection(Settings(**options))
    assert (selection.gap() == 0 and selection.selects(CHAIN)) is wanted


@pytest.mark.parametrize("sample", [0.9, 0.5, 0.01])
def test_about_the_sample_is_selected(sample: float) -> None:
    selection = Selection(Settings(record_sample=sample))
    gaps = [selection.gap() for _ in range(20_000)]

    # The number of calls for each selected one, and how many of them directly follow another one.
    assert sum(gap + 1 for gap in gaps) / len(gaps) == pytest.approx(1 / sample, rel=0.05)
    assert gaps.count(0) / len(gaps) == pytest.approx(sample, rel=0.25)


def test_the_smallest_sample_is_possible() -> None:
    assert Selection(Settings(record_sample=5e-324)).gap() > 10**9


def test_calls_between_those_of_the_sample_are_skipped(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = iter([2, 0, 3])
    monkeypatch.setattr(Selection, "gap", lambda self, calls=0: next(gaps))
    recorder = Recorder(settings)
    recorder.start()
    selected = [number for number in range(6) if is_wanted(recorder)]
    Maker.gate.set()
    recorder.close(JOIN_S)

    assert selected == [2, 3]
    assert recorder.counts == Counts(0, 0)


def test_only_failures_are_selected_when_the_call_has_ended() -> None:
    selection = Selection(Settings(record_only_failures=True))

    assert selection.gap() == 0
    assert selection.selects(CHAIN) is True
    assert selection.wants(trace(1)) is False
    assert selection.wants(trace(1, error=object())) is True


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (None, set()),
        ("r1", {"r1"}),
        ("route#a#b#ext-plugin-pre-req#1", {"route#a#b#ext-plugin-pre-req#1", "a#b"}),
        ("route&service#a&b#ext-plugin-post-req#1&2", {"route&service#a&b#ext-plugin-post-req#1&2", "a&b", "a", "b"}),
    ],
)
def test_a_route_is_selected_by_its_key_or_an_id(key: str | None, names: set[str]) -> None:
    assert names_of_route(key) == names
