# SPDX-License-Identifier: Apache-2.0
"""The event loop of the supervisor: descriptors, timers and signals. No callback can stop it."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from apisix.runner.ipc.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor, whose signal handlers are restored afterwards."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGHUP, signal.SIGUSR2)}
    reactor = Reactor()
    yield reactor
    reactor.close()
    for signum, handler in before.items():
        signal.signal(signum, handler)


def run(reactor: Reactor, calls: list[object], count: int) -> None:
    """Run until `calls` has `count` entries."""
    deadline_s = time.monotonic() + 5
    guard = reactor.call_later(5, lambda: None)
    reactor.run(until=lambda: len(calls) >= count or time.monotonic() > deadline_s)
    guard.cancel()
    assert len(calls) == count


def test_a_readable_descriptor(reactor: Reactor) -> None:
    """The callback of a descriptor is called as long as there is data, and not after `unwatch`."""
    ours, theirs = socket.socketpair()
    calls: list[object] = []
    with ours, theirs:
        reactor.watch(ours, lambda: calls.append(ours.recv(1)))
        theirs.send(b"ab")
        run(reactor, calls, 2)
        reactor.unwatch(ours)
        reactor.unwatch(ours)
        theirs.send(b"c")
        reactor.call_later(0, lambda: calls.append("timer"))
        run(reactor, calls, 3)

    assert calls == [b"a", b"b", "timer"]


def test_a_closed_descriptor_gets_no_callback(reactor: Reactor) -> None:
    """If two descriptors are ready in one iteration, and the callback of one closes the other, that one is not called."""
    pairs = [socket.socketpair() for _ in range(2)]
    calls: list[object] = []

    def close_both() -> None:
        calls.append("first")
        for ours, _ in pairs:
            reactor.unwatch(ours)
            ours.close()

    for ours, theirs in pairs:
        reactor.watch(ours, close_both)
        theirs.send(b"x")
    run(reactor, calls, 1)
    reactor.call_later(0, lambda: calls.append("timer"))
    run(reactor, calls, 2)

    assert calls == ["first", "timer"]
    for _, theirs in pairs:
        theirs.close()


def test_a_writable_descriptor(reactor: Reactor) -> None:
    """The second callback is called when the descriptor can be written, until it is removed."""
    ours, theirs = socket.socketpair()
    calls: list[object] = []

    def write() -> None:
        calls.append("write")
        reactor.watch_writing(ours, None)

    with ours, theirs:
        reactor.watch(ours, lambda: calls.append(ours.recv(1)))
        reactor.watch_writing(ours, write)
        run(reactor, calls, 1)
        theirs.send(b"a")
        run(reactor, calls, 2)
        reactor.unwatch(ours)
        reactor.watch_writing(ours, write)

    assert calls == ["write", b"a"]


def test_timers_run_in_order(reactor: Reactor) -> None:
    """Timers run by time, periodic ones run again, and a cancelled one does not run."""
    calls: list[object] = []
    reactor.call_later(0.02, lambda: calls.append("late"))
    reactor.call_later(0.01, lambda: calls.append("early"))
    reactor.call_later(0.0, lambda: calls.append("never")).cancel()
    run(reactor, calls, 2)
    ticks: list[object] = []
    timer = reactor.call_every(0.005, lambda: ticks.append("tick"))
    run(reactor, ticks, 3)
    timer.cancel()

    assert calls == ["early", "late"]


def test_missed_timers_are_skipped(reactor: Reactor) -> None:
    """After a pause, a periodic timer runs once, and then at its usual times."""
    ticks: list[float] = []
    reactor.call_every(0.01, lambda: ticks.append(time.monotonic()))
    calls: list[object] = []

    def pause() -> None:
        time.sleep(0.1)
        calls.append("pause")

    reactor.call_later(0.0, pause)
    run(reactor, calls, 1)
    reactor.run(until=lambda: len(ticks) >= 2)

    assert ticks[1] - ticks[0] >= 0.009


def test_signals_are_handled_in_the_loop(reactor: Reactor) -> None:
    """A signal wakes the loop up, and its callback runs there."""
    calls: list[object] = []
    reactor.on_signal(signal.SIGUSR2, lambda: calls.append("usr2"))
    reactor.on_signal(signal.SIGHUP, lambda: calls.append("hup"))
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR2)).start()
    run(reactor, calls, 1)
    os.kill(os.getpid(), signal.SIGHUP)
    run(reactor, calls, 2)

    assert calls == ["usr2", "hup"]


def test_the_age_of_a_signal(reactor: Reactor) -> None:
    """The time since a signal arrived is available until it is handled, even if it arrived before the loop ran."""
    ages: list[object] = []
    reactor.on_signal(signal.SIGUSR2, lambda: ages.append(reactor.signal_age_s(signal.SIGUSR2)))
    assert reactor.signal_age_s(signal.SIGUSR2) == 0.0
    os.kill(os.getpid(), signal.SIGUSR2)
    before_s = reactor.signal_age_s(signal.SIGUSR2)
    run(reactor, ages, 1)

    assert 0.0 < before_s < float(str(ages[0]))
    assert reactor.signal_age_s(signal.SIGUSR2) == 0.0


def test_an_exception_in_a_callback_does_not_stop_the_loop(reactor: Reactor, caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged, and the loop continues, because all workers would exit with it."""
    calls: list[object] = []
    reactor.call_later(0.0, lambda: 1 / 0)
    reactor.call_later(0.0, lambda: calls.append("next"))
    with caplog.at_level(logging.ERROR):
        run(reactor, calls, 1)

    assert [record.message for record in caplog.records] == ["a defect of the runner's supervisor"]
