# SPDX-License-Identifier: Apache-2.0
"""The examples in docs/guides/test.md work."""

import re
import subprocess
import sys
from pathlib import Path

from apisix.testing import Client
from tests.testing.replaying.recording import write_records

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "test.md"

KEY_AUTH = """
from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class KeyAuthConfig:
    keys: frozenset[str]


class KeyAuth(Plugin[KeyAuthConfig]):
    def on_request(self, request: Request) -> Reply | None:
        if request.headers.get("x-api-key") not in self.config.keys:
            return Reply(401)
        request.headers["x-authenticated"] = "yes"
"""
SAY = """
from datetime import datetime

from apisix import Plugin, Reply, Request


def hour() -> int:
    return datetime.now().hour


class Say(Plugin):
    def on_request(self, request: Request) -> Reply:
        return Reply(200, "good night" if hour() > 20 else "good day")
"""


def test_page(tmp_path: Path) -> None:
    """All Python code of the page runs, and its tests pass, in a directory with the plugins that they use."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    tests = [block for block in blocks if "def test_" in block]
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "key_auth.py").write_text(KEY_AUTH)
    (tmp_path / "plugins" / "say.py").write_text(SAY)
    with Client([tmp_path / "plugins"]) as client:
        results = [client.get("/", headers={"x-api-key": "alpha"}, plugins=[("key-auth", {"keys": ["alpha"]})], route_key="route#1#1")]
        write_records(tmp_path / "calls.jsonl", results)
    for number, block in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(block)
    (tmp_path / "script.py").write_text("\n".join(block for block in blocks if block not in tests))

    options = ["-W", "error", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    options += [argument for name in ("cacheprovider", "hypothesispytest", "xdist") for argument in ("-p", f"no:{name}")]
    ran = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{sum(block.count('def test_') for block in tests)} passed" in ran.stdout

    script = subprocess.run([sys.executable, "-W", "error", "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert script.returncode == 0, script.stdout + script.stderr


def test_names() -> None:
    """The page mentions each attribute of a result, and each argument of a call."""
    from apisix.testing.options import RequestOptions, RespondOptions
    from apisix.testing.results.result import Result

    text = PAGE.read_text(encoding="utf-8")
    names = {*(name for name in dir(Result) if not name.startswith("_")), *RequestOptions.__annotations__, *RespondOptions.__annotations__}
    assert sorted(name for name in names if f"`{name}`" not in text) == []
