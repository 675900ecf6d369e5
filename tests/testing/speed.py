# SPDX-License-Identifier: Apache-2.0
"""
Measure how long tests with the test kit take: `python -m tests.testing.speed`.

The results are in docs/internals/performance.md.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client

TESTS = 1000
ROUNDS = 5

PLUGIN = """
from apisix import Plugin, Reply


class KeyAuth(Plugin):
    def on_request(self, request):
        if request.headers.get("x-api-key") not in self.config["keys"]:
            return Reply(401, json={"error": "unknown key"})
        request.headers["x-consumer"] = request.var("consumer_name")
        request.body = request.read().upper()
"""
SUITE = f"""
import pytest


@pytest.mark.parametrize("number", range({TESTS}))
def test_known_key(client, number):
    result = client.post("/users?flag", headers={{"x-api-key": "alpha"}}, body=b"hello", vars={{"consumer_name": "jack"}},
                         plugins=[("key-auth", {{"keys": ["alpha"]}})])
    assert result.upstream.headers["x-consumer"] == "jack"
"""

EMPTY = f"""
import pytest


@pytest.mark.parametrize("number", range({TESTS}))
def test_nothing(number):
    pass
"""


def call(client: Client) -> None:
    """Send a request through a plugin that requests a variable and the body."""
    client.post(
        "/users?flag",
        headers={"x-api-key": "alpha"},
        body=b"hello",
        vars={"consumer_name": "jack"},
        plugins=[("key-auth", {"keys": ["alpha"]})],
    )


def seconds_of_pytest(directory: Path, file: str) -> float:
    """Run a test suite, and return the time that pytest reports, without its start."""
    others = [argument for name in ("cacheprovider", "asyncio", "anyio", "hypothesispytest") for argument in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *others, file]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    found = re.search(rf"{TESTS} passed in ([\d.]+)s", ran.stdout)
    assert found, ran.stdout
    return float(found[1])


def main() -> None:
    """Measure, and print one line for each figure: the median and the extremes of some rounds."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "plugins").mkdir()
        (directory / "plugins" / "key_auth.py").write_text(PLUGIN)
        (directory / "test_suite.py").write_text(SUITE)
        (directory / "test_empty.py").write_text(EMPTY)
        registry = Registry.load([directory / "plugins"])

        def clients() -> None:
            for _ in range(TESTS):
                with Client(registry=registry) as client:
                    call(client)

        def calls() -> None:
            with Client(registry=registry) as client:
                for _ in range(TESTS):
                    call(client)

        def timed(function: Callable[[], None]) -> float:
            began_s = perf_counter()
            function()
            return perf_counter() - began_s

        rows = {
            "a call": [timed(calls) for _ in range(ROUNDS)],
            "a client, its first call, its end": [timed(clients) for _ in range(ROUNDS)],
            "a test under pytest": [seconds_of_pytest(directory, "test_suite.py") for _ in range(ROUNDS)],
            "an empty test under pytest": [seconds_of_pytest(directory, "test_empty.py") for _ in range(ROUNDS)],
        }
    for what, seconds in rows.items():
        least, middle, most = (f"{value / TESTS * 1000:.2f}" for value in (min(seconds), median(seconds), max(seconds)))
        print(f"{what:35} {middle} ms ({least} to {most}), {TESTS / median(seconds):,.0f} a second")


if __name__ == "__main__":
    main()
