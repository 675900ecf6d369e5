# SPDX-License-Identifier: Apache-2.0
"""The operator's page says what is true: its settings exist, its files work, its metrics are those that are served."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import yaml

from apisix.cli.commands import COMMANDS
from apisix.cli.diagnosis.gateway import GatewayConfig, look_at_gateway
from apisix.runner.call.chains import Chains
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics.collecting import Reporter
from apisix.runner.metrics.page import families_of
from apisix.runner.settings.table import SETTINGS, Settings, load
from apisix.runner.supervisor.worker_pool import Crew

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "guides" / "operate.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    before = signal.getsignal(signal.SIGHUP)
    reactor = Reactor()
    yield reactor
    reactor.close()
    signal.signal(signal.SIGHUP, before)


def test_metrics(reactor: Reactor) -> None:
    """Each metric that is served stands in the table, under the name that Prometheus sees, and no other."""
    served = list(families_of(Crew(reactor, Settings(), 1, lambda channel, dump, marks, pid: 0), (0, 0)))
    loop = asyncio.new_event_loop()
    reporter = Reporter(Runtime(loop, cast("Chains", None), PluginThreads(1), 1.0, 1, "refuse", 1), lambda: 0)
    reporter.start(lambda message: served.append(message.family))
    reporter.finish()
    loop.close()
    names = {
        f"{family.name}_total" if family.kind == "counter" else family.name for family in served if family.name.startswith("apisix_runner")
    }

    assert names == set(re.findall(r"^\| `(apisix_runner_\w+)`", PAGE, re.MULTILINE))


def test_metrics_that_queries_name() -> None:
    """The queries name metrics of the table."""
    table = set(re.findall(r"^\| `(apisix_runner_\w+)`", PAGE, re.MULTILINE))
    named = {name.removesuffix("_bucket") for name in re.findall(r"apisix_runner_\w+", PAGE)}

    assert set() == named - table


def test_settings() -> None:
    """Each setting that the page names exists."""
    sections = {row.key.partition(".")[0] for row in SETTINGS}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)\b", PAGE) if name.partition(".")[0] in sections}

    assert set() == named - {row.key for row in SETTINGS}
    assert len(named) > 10


def test_variables() -> None:
    """Each variable of the environment is one."""
    assert set() == set(re.findall(r"APISIX_RUNNER_\w+", PAGE)) - {name for row in SETTINGS for name in row.variables}


def test_commands() -> None:
    """Each command is one."""
    assert set() == set(re.findall(r"(?<![/\w])apisix-runner ([a-z]+)\b", PAGE)) - set(COMMANDS)


def test_files(tmp_path: Path) -> None:
    """The runner's file is read as it stands, and the gateway's two have nothing that doctor minds but a missing program."""
    managed, alone, runner, sidecar = blocks("yaml")
    file = tmp_path / "config.yaml"
    file.write_text(runner, encoding="utf-8")
    settings = load(file, {}, {})
    findings = [
        finding
        for text in (managed, alone)
        for finding in look_at_gateway(GatewayConfig(tmp_path, yaml.safe_load(text)), settings.socket_file)
    ]

    assert ("/run/apisix-runner/runner.sock", "127.0.0.1:9092") == (settings.socket_file, settings.metrics_address)
    assert ["cmd begins with /opt/runner/.venv/bin/apisix-runner, which is not there or can't be executed"] == [
        finding.text for finding in findings if finding.level != "ok"
    ]
    assert "apisix-runner" == yaml.safe_load(sidecar)["spec"]["containers"][1]["command"][0]
