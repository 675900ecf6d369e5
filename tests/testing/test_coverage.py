# SPDX-License-Identifier: Apache-2.0
"""Reports of coverage.py are correct with the configuration in docs/guides/test.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apisix.compiled import why_pure

pytest.importorskip("coverage", reason="coverage.py is not installed")

CONCURRENCY = '[tool.coverage.run]\nconcurrency = ["greenlet", "thread"]\n'
PLUGINS = """
from apisix import Plugin


class Plain(Plugin):
    def on_request(self, request):
        name = request.var("consumer_name")
        if name is None:
            raise LookupError
        read(request)
        return None


class Async(Plugin):
    async def on_request(self, request):
        name = await request.avar("consumer_name")
        if name is None:
            raise LookupError
        request.headers["x-name"] = name


class Blocking(Plugin):
    blocking = True

    def on_request(self, request):
        name = request.var("consumer_name")
        if name is None:
            raise LookupError
        read(request)
        return None


def read(request):
    body = request.read()
    request.headers["x-length"] = str(len(body))
"""
TEST = """
import pytest


@pytest.mark.parametrize("name", ["plain", "async", "blocking"])
def test_all(client, name):
    client.post("/", body="hello", vars={"consumer_name": "jack"}, plugins=[name])
"""


def measure(directory: Path, config: str) -> tuple[list[str], str]:
    """Return the lines of the plugins that were missed, and the output of pytest."""
    (directory / "plugins").mkdir()
    (directory / "plugins" / "samples.py").write_text(PLUGINS)
    (directory / "test_samples.py").write_text(TEST)
    (directory / "pyproject.toml").write_text(config)
    others = [argument for name in ("asyncio", "anyio", "cacheprovider", "hypothesispytest", "xdist") for argument in ("-p", f"no:{name}")]
    coverage = [sys.executable, "-m", "coverage"]
    ran = subprocess.run(
        [*coverage, "run", "--source", "plugins", "-m", "pytest", *others], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    subprocess.run([*coverage, "json", "-q"], cwd=directory, check=True, timeout=60)
    missed = json.loads((directory / "coverage.json").read_text())["files"]["plugins/samples.py"]["missing_lines"]
    return [PLUGINS.splitlines()[number - 1].strip() for number in missed], ran.stdout


def test_lines_after_a_wait(tmp_path: Path) -> None:
    """With the configuration of the page, only lines that did not run are missed, in all kinds of hooks."""
    missed, output = measure(tmp_path, CONCURRENCY)

    assert missed == ["raise LookupError"] * 3
    assert "UserWarning" not in output


@pytest.mark.skipif(why_pure() is not None, reason="the modules are not compiled")
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="coverage.py uses sys.monitoring")
def test_missing_configuration(tmp_path: Path) -> None:
    """Without the configuration, a warning describes what to write."""
    _, output = measure(tmp_path, "")

    assert "UserWarning: coverage.py is not configured for greenlets" in output
