# SPDX-License-Identifier: Apache-2.0
"""Background tasks of plugins in a real runner."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from apisix.runner.wire.messages import HTTPReqCallResp
from tests.runner_process import running

pytestmark = pytest.mark.process

PLUGINS = """
import asyncio, os, pathlib
from apisix import Plugin

def note(file, text):
    with open(file, "a") as stream:
        stream.write(text + "\\n")

class Refresh(Plugin[str]):
    async def setup(self):
        note(self.config, "setup")
    async def background(self):
        note(self.config, "begin")
        try:
            await asyncio.sleep(60)
        finally:
            note(self.config, "end")
    async def close(self):
        note(self.config, "close")
    def on_request(self, request):
        note(self.config, "call")

class Lazy(Plugin[str]):
    eager = False
    async def background(self):
        note(self.config, "begin")
    def on_request(self, request): ...

class Failing(Plugin):
    async def background(self):
        raise LookupError("no keys")
    def on_request(self, request): ...

class Once(Plugin[str]):
    once = True
    async def background(self):
        note(self.config, str(os.getpid()))
        await asyncio.sleep(60)
    def on_request(self, request): ...
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """The directory of the plugins."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "plugins.py").write_text(PLUGINS)
    return directory


def wait_until(condition: Callable[[], bool], within_s: float = 40.0) -> None:
    """Return when the condition is true. Fail after `within_s` seconds."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not become true"
        time.sleep(0.02)


def lines(file: Path) -> list[str]:
    """Return the lines that the plugins have written."""
    return file.read_text().splitlines() if file.exists() else []


def test_the_life_of_a_task(plugins: Path, tmp_path: Path) -> None:
    """It begins after `setup`, is cancelled before `close`, and one of a failing plugin does not affect calls."""
    file = tmp_path / "notes"
    with running(plugins=[plugins]) as runner:
        with runner.peer() as peer:
            assert peer.request(peer.prepare(("refresh", str(file)), ("failing", ""))) == HTTPReqCallResp(7)
            wait_until(lambda: "begin" in lines(file))
            runner.wait_for_log("the background task of plugin failing failed", "LookupError: no keys", '"plugin": "failing"')
            assert peer.request(peer.prepare(("refresh", str(file)), ("failing", ""))) == HTTPReqCallResp(7)
        runner.process.send_signal(signal.SIGINT)
        runner.process.wait(20)

    found = lines(file)
    assert found[0] == "setup"
    assert sorted(found[1:3]) in (["begin", "call"], ["call", "call"])
    assert found[-2:] == ["end", "close"]
    assert found.count("begin") == 1


def test_a_task_starts_without_a_call(plugins: Path, tmp_path: Path) -> None:
    """It starts when the configuration arrives, unless the class sets `eager = False`. Then the first call starts it."""
    file, lazy = tmp_path / "notes", tmp_path / "lazy-notes"
    with running(plugins=[plugins]) as runner, runner.peer() as peer:
        lazy_token = peer.prepare(("lazy", str(lazy)))
        peer.prepare(("refresh", str(file)))
        wait_until(lambda: lines(file) == ["setup", "begin"])
        assert lines(lazy) == []
        assert peer.request(lazy_token) == HTTPReqCallResp(7)
        wait_until(lambda: lines(lazy) == ["begin"])


def test_one_worker_runs_the_task(plugins: Path, tmp_path: Path) -> None:
    """With `once = True`, one of two workers runs it. If that one is killed, the other one continues."""
    file = tmp_path / "notes"
    with running("--workers", "2", plugins=[plugins]) as runner:
        with runner.peer() as first, runner.peer() as second:
            assert first.request(first.prepare(("once", str(file)))) == HTTPReqCallResp(7)
            assert second.request(second.prepare(("once", str(file)))) == HTTPReqCallResp(7)
            wait_until(lambda: len(lines(file)) == 1)
            os.kill(int(lines(file)[0]), signal.SIGKILL)
            wait_until(lambda: len(lines(file)) == 2)
        assert len(set(lines(file))) == 2
