# SPDX-License-Identifier: Apache-2.0
"""A plugin that takes long or never returns affects only its own calls. Other routes are prepared and served meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from apisix.runner.wire.messages import HTTPReqCallReq, HTTPReqCallResp
from tests.runner_process import RunnerProcess, running

CALLS = 150
PLUGINS = '''
import pathlib, time
from apisix import Plugin
from apisix.runner.plugin.core import PluginBase

def hold(file):
    """Block until the file is there, at most a minute."""
    pathlib.Path(file + ".begun").touch()
    until = time.monotonic() + 60
    while not pathlib.Path(file).exists() and time.monotonic() < until:
        time.sleep(0.01)

class Instant(Plugin):
    blocking = True
    def on_request(self, request): ...

class SlowInit(Plugin[str]):
    def __init__(self): hold(self.config)
    def on_request(self, request): ...

class SlowSetup(Plugin[str]):
    eager = True
    def __init__(self): hold(self.config)
    def on_request(self, request): ...

class SlowConfig(PluginBase):
    blocking = True
    def name(self): return "slow-config"
    def config(self, conf):
        hold(conf)
        return conf
    def filter(self, conf, request, response): ...

class Stuck(Plugin[str]):
    blocking = True
    def on_request(self, request): hold(self.config)
'''


@dataclass
class Stage:
    """A runner with these plugins, and the file that lets the slow ones continue."""

    runner: RunnerProcess
    file: Path

    @property
    def has_begun(self) -> bool:
        """Return True if a slow plugin is running."""
        return Path(f"{self.file}.begun").exists()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A runner with one worker."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "plugins.py").write_text(PLUGINS)
    file = tmp_path / "go"
    with running("--workers", "1", plugins=[directory]) as runner:
        yield Stage(runner, file)
        file.touch()


@pytest.mark.parametrize("name", ["slow-init", "slow-config"])
def test_a_plugin_that_is_slow_to_make(stage: Stage, name: str) -> None:
    """
    While a plugin of one route is being created, another route is prepared and its calls get replies.

    `config` of a PluginBase runs in each call, as a part of its hook. When the plugin was marked as blocking, it runs in a thread.
    """
    with stage.runner.peer() as slow, stage.runner.peer() as other:
        slow.send(HTTPReqCallReq(id=1, conf_token=slow.prepare((name, str(stage.file)))))
        while not stage.has_begun:
            other.prepare(("instant", "1"))

        assert other.request(other.prepare(("instant", "2"))) == HTTPReqCallResp(7)
        assert not stage.file.exists()
        stage.file.touch()
        assert slow.reply() == HTTPReqCallResp(1)


def test_an_eager_plugin_is_made_without_a_call(stage: Stage) -> None:
    """PrepareConf gets its reply at once, and the plugin is created without a call."""
    with stage.runner.peer() as peer:
        peer.prepare(("slow-setup", str(stage.file)))
        while not stage.has_begun:
            peer.prepare(("instant", "1"))


def test_stuck_calls_of_one_plugin(stage: Stage) -> None:
    """Even if many calls of one blocking plugin hang, another blocking plugin runs."""
    with ExitStack() as stack:
        other = stack.enter_context(stage.runner.peer())
        token = other.prepare(("stuck", str(stage.file)))
        stuck = [stack.enter_context(stage.runner.peer()) for _ in range(CALLS)]
        for number, peer in enumerate(stuck):
            peer.send(HTTPReqCallReq(id=number, conf_token=token))

        assert other.request(other.prepare(("instant", "1"))) == HTTPReqCallResp(7)
        assert not stage.file.exists()
        stage.file.touch()
        assert [peer.reply() for peer in stuck] == [HTTPReqCallResp(number) for number in range(CALLS)]
