# SPDX-License-Identifier: Apache-2.0
"""Reloads of real plugins through the gateway's protocol: every call gets a reply, by the old or by the new code."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.echo import wait_until
from tests.runner_process import RunnerProcess, running

GOOD = """
from apisix import Plugin, Reply, Request

class Version(Plugin):
    def on_request(self, request: Request) -> Reply:
        return Reply(200, body="{version}")
"""
BROKEN = "import no_such_module\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The file of a plugin that replies with its version."""
    file = tmp_path / "version.py"
    file.write_text(GOOD.format(version=1))
    return file


class Callers:
    """Gateways that call without a pause, each over its own connection with one token. `bodies` are the replies, in order."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.errors: list[BaseException] = []

    def versions(self) -> set[bytes]:
        """Return the content of the latest replies."""
        return set(self.bodies[-50:])


@contextmanager
def calling(runner: RunnerProcess, count: int) -> Iterator[Callers]:
    """Call while the block runs."""
    callers = Callers()
    done = threading.Event()

    def call() -> None:
        try:
            with runner.peer() as peer:
                token = peer.prepare(("version", "{}"))
                while not done.is_set():
                    callers.bodies.append(bytes(peer.request(token).action.body))
        except BaseException as error:
            callers.errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(callers.bodies) > 100 or bool(callers.errors))
        yield callers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_reload_costs_no_call(plugin: Path) -> None:
    """After each of three SIGHUPs with new code, no call is lost or wrong, and at the end the last code replies."""
    with running("--workers", "2", plugins=[plugin.parent]) as runner, calling(runner, 12) as callers:
        for version in range(2, 5):
            plugin.write_text(GOOD.format(version=version))
            runner.process.send_signal(signal.SIGHUP)
            wait_until(lambda: {b"%d" % version} == callers.versions(), runner.log)  # noqa: B023  # called in this round only
    assert callers.errors == []
    assert set(callers.bodies) == {b"1", b"2", b"3", b"4"}


def test_a_broken_file_changes_nothing(plugin: Path) -> None:
    """With --reload, a saved mistake is shown with its file and line, and the old code continues. Corrected code is loaded."""
    with running("--reload", plugins=[plugin.parent]) as runner, calling(runner, 4) as callers:
        plugin.write_text(BROKEN)
        runner.wait_for_log("so the old ones continue: ")
        runner.wait_for_log("version.py:1: it imports no_such_module, which is missing")
        assert callers.versions() == {b"1"}
        plugin.write_text(GOOD.format(version=2))
        wait_until(lambda: {b"2"} == callers.versions(), runner.log)
    assert callers.errors == []
    assert set(callers.bodies) == {b"1", b"2"}


def test_a_file_that_hangs_can_be_fixed(plugin: Path) -> None:
    """If the import of a module never ends, it is abandoned when the file is corrected, long before the worker would be killed for it."""
    with running("--reload", plugins=[plugin.parent]) as runner, calling(runner, 1) as callers:
        plugin.write_text("while True: pass\n")
        runner.wait_for_log("reloading: ")
        plugin.write_text(GOOD.format(version=2))
        wait_until(lambda: {b"2"} == callers.versions(), runner.log)
    assert callers.errors == []


def test_a_token_is_good_in_every_worker(plugin: Path) -> None:
    """A token that one worker issued is known at once to another one, and to the workers after a reload."""
    with running("--workers", "2", plugins=[plugin.parent]) as runner, runner.peer() as one, runner.peer() as other:
        token = one.prepare(("version", "{}"))
        assert bytes(other.request(token).action.body) == b"1"
        plugin.write_text(GOOD.format(version=2))
        runner.process.send_signal(signal.SIGHUP)
        wait_until(lambda: bytes(other.request(token).action.body) == b"2", runner.log)
