# SPDX-License-Identifier: Apache-2.0
"""The pages name settings, variables, commands, metrics and limits that exist."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import yaml

from apisix.cli.commands import COMMANDS
from apisix.cli.diagnosis.gateway import GatewayConfig, examine_gateway
from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.http.body.content_encoding import DEFAULT_MAX_DECOMPRESSED_BYTES, MAX_CODINGS, MAX_STREAMS
from apisix.runner.http.body.multipart_form import MAX_PARTS
from apisix.runner.http.body.parsing import IN_COROUTINE_BYTES, IN_PLACE_BYTES, MAX_FORM_FIELDS, MAX_JSON_VALUES, MAX_TEXT_BYTES
from apisix.runner.http.header_rules import REQUEST_FRAMING
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics.collecting import Reporter, families_of_background, families_of_pool
from apisix.runner.metrics.families import Family
from apisix.runner.plugin.chain.background import BackgroundTasks
from apisix.runner.process_pool.pool import ProcessPool
from apisix.runner.settings.loading import OTHER_VARIABLES, load
from apisix.runner.settings.table import SETTINGS, Settings
from apisix.runner.supervisor.status import Refusals, supervisor_families
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.worker import shared_store
from apisix.runner.worker.observers import Recording
from apisix.runner.worker.shared_metadata import SharedMetadata
from tests.docs.pages import CHECKOUT, DOCS, blocks, pages, text_of

DEPLOY = DOCS / "guides" / "deploy.md"
METRIC_ROW = re.compile(r"^\| `(apisix_runner_\w+)`", re.MULTILINE)
# They name earlier releases' settings and variables, or explain how names are formed.
HISTORY = {CHECKOUT / "CHANGELOG.md", DOCS / "reference" / "settings.md"}
NOT_SETTINGS = {"APISIX_RUNNER_BUILD", *OTHER_VARIABLES}

PAGES = [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in pages() if page not in HISTORY]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    before = signal.getsignal(signal.SIGHUP)
    reactor = Reactor()
    yield reactor
    reactor.close()
    signal.signal(signal.SIGHUP, before)


def test_metrics(reactor: Reactor) -> None:
    """The table contains each metric that is served, under the name that Prometheus uses, and no other."""
    served = list(supervisor_families(WorkerPool(reactor, Settings(), 1, lambda *_: 0), Refusals(0, 0)))
    loop = asyncio.new_event_loop()
    runtime = Runtime(loop, cast("ChainCache", None), PluginThreads(1), 1.0, 1, "refuse", 1)
    recording, pool, metadata = Recording(runtime, Settings()), ProcessPool(loop, Settings()), SharedMetadata(Settings())

    def further() -> list[Family]:
        families = [*recording.families(), *families_of_pool(pool), *families_of_background(BackgroundTasks()), *metadata.families()]
        return [*families, *shared_store.families()]

    reporter = Reporter(runtime, lambda: 0, 1 << 20, further)
    reporter.start(served.append)
    reporter.finish()
    loop.close()
    names = {
        f"{family.name}_total" if family.kind == "counter" else family.name for family in served if family.name.startswith("apisix_runner")
    }

    assert set(METRIC_ROW.findall(text_of("reference", "metrics.md"))) == names


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_pages_name(page: Path) -> None:
    """Each metric that a page names is in the table."""
    table = set(METRIC_ROW.findall(text_of("reference", "metrics.md")))
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bapisix_runner_\w+", page.read_text(encoding="utf-8"))}

    assert set() == named - table


@pytest.mark.parametrize("page", PAGES)
def test_settings(page: Path) -> None:
    """Each setting that a page names exists."""
    sections = {row.key.partition(".")[0] for row in SETTINGS}
    text = page.read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)\b(?!\.|\()", text) if name.partition(".")[0] in sections}
    files = {name for name in named if name.endswith((".py", ".pxd", ".md", ".yaml"))}

    assert named - files - {row.key for row in SETTINGS} == set()


@pytest.mark.parametrize("page", PAGES)
def test_variables(page: Path) -> None:
    """Each variable of the environment that a page names exists."""
    known = NOT_SETTINGS | {name for row in SETTINGS for name in row.variables}

    assert set(re.findall(r"\bAPISIX_RUNNER_\w+", page.read_text(encoding="utf-8"))) - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: Path) -> None:
    """Each command that a page names exists."""
    named = set(re.findall(r"(?<![/\w-])apisix-runner ([a-z]+)\b", page.read_text(encoding="utf-8")))

    assert named - set(COMMANDS) == set()


def test_files(tmp_path: Path) -> None:
    """The runner reads its file, and `doctor` finds nothing wrong in the gateway's two files except the missing program."""
    managed, alone, runner = (block.code for block in blocks("yaml", DEPLOY))
    file = tmp_path / "config.yaml"
    file.write_text(runner, encoding="utf-8")
    settings = load(file, {}, {})
    findings = [
        finding
        for text in (managed, alone)
        for finding in examine_gateway(GatewayConfig(tmp_path, yaml.safe_load(text)), settings.socket_file)
    ]

    assert (settings.socket_file, settings.metrics_address) == ("/run/apisix-runner/runner.sock", "127.0.0.1:9092")
    assert ["/opt/runner/.venv/bin/apisix-runner" in finding.text for finding in findings if finding.level != "ok"] == [True]


def test_body_limits() -> None:
    """The table of body limits has the numbers of the code."""
    section = text_of("reference", "limitations.md").split("\n## Body limits")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", section, re.MULTILINE)
    numbers = [int(re.findall(r"\d[\d,]*", value)[0].replace(",", "")) for _, value in rows if re.search(r"\d", value)]
    mebibyte = 2**20

    assert numbers == [
        DEFAULT_MAX_DECOMPRESSED_BYTES // mebibyte,
        MAX_CODINGS,
        MAX_STREAMS,
        (MAX_TEXT_BYTES + 1) // mebibyte,
        MAX_JSON_VALUES,
        MAX_FORM_FIELDS,
        MAX_PARTS,
    ]
    assert (IN_PLACE_BYTES, IN_COROUTINE_BYTES) == (64 * 1024, 512 * 1024)


def test_defaults_in_the_table_of_limits() -> None:
    """The table of limits has the defaults of the code."""
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \|", text_of("guides", "configure.md"), re.MULTILINE))
    shown = {row.key: re.sub(r"[^\d]", "", rows[row.key]) or "0" for row in SETTINGS if row.key in rows}
    units = {row.key: 2**20 if rows[row.key].endswith("MiB") else 1 for row in SETTINGS if row.key in rows}

    assert {key: int(value) * units[key] for key, value in shown.items()} == {
        row.key: row.default or 0 for row in SETTINGS if row.key in rows
    }
    assert set(rows) == set(shown)


def test_framing_headers() -> None:
    """The limitations list the framing headers of requests, and which edits of them are possible."""
    table = text_of("reference", "limitations.md").split("\n## ")[2]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]*\|[^|]*) \|", table, re.MULTILINE))
    documented = {name: (cells.startswith("sent"), cells.partition("|")[2].strip().startswith("sent")) for name, cells in rows.items()}
    assert documented == {name: (rule.can_be_set, rule.sends_deletion) for name, rule in REQUEST_FRAMING.items()}
