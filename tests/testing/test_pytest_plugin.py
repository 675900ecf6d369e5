# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin in projects of plugin authors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HELLO = """
from apisix import Plugin, Reply

class Hello(Plugin):
    def on_request(self, request):
        return Reply(200, "hello from {place}")
"""
TEST = """
def test_hello(client):
    assert client.get("/", plugins=["hello"]).reply.text == "hello from {place}"
"""


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as an author does, with warnings as errors, and without plugins that are not needed."""
    others = [argument for name in ("asyncio", "anyio", "cacheprovider", "hypothesispytest", "xdist") for argument in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-W", "error", *others, *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def write(directory: Path, files: dict[str, str]) -> None:
    """Write files, and create their directories."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def test_plugins_of_the_root_directory(tmp_path: Path) -> None:
    """Plugins are loaded from plugins/ in pytest's root directory, even if pytest is started in a subdirectory."""
    write(
        tmp_path,
        {
            "pytest.ini": "[pytest]\n",
            "plugins/hello.py": HELLO.format(place="the root"),
            "tests/test_hello.py": TEST.format(place="the root"),
        },
    )

    ran = run_pytest(tmp_path / "tests")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_plugins_where_pytest_is_started(tmp_path: Path) -> None:
    """If pytest is started in a part of a larger project, the plugins/ of that part are loaded too."""
    write(
        tmp_path,
        {
            "pytest.ini": "[pytest]\n",
            "part/plugins/hello.py": HELLO.format(place="a part"),
            "part/tests/test_hello.py": TEST.format(place="a part"),
        },
    )

    ran = run_pytest(tmp_path / "part", ".")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_option(tmp_path: Path) -> None:
    """The option adds directories, and can be repeated."""
    write(
        tmp_path,
        {
            "one/hello.py": HELLO.format(place="one"),
            "two/other.py": HELLO.format(place="two").replace("Hello", "Other"),
            "test_both.py": TEST.format(place="one")
            + "\n\ndef test_other(apisix_client):\n    assert apisix_client.get('/', plugins=['other']).reply.text == 'hello from two'\n",
        },
    )

    ran = run_pytest(tmp_path, "--apisix-plugins", "one", "--apisix-plugins=two")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_option_with_a_missing_directory(tmp_path: Path) -> None:
    """If a directory of the option does not exist, pytest prints an error before any test runs."""
    ran = run_pytest(tmp_path, "--apisix-plugins", "nowhere")

    assert (ran.returncode, ran.stderr.strip()) == (4, f"ERROR: --apisix-plugins: there is no directory {tmp_path}/nowhere")


def test_failure_shows_the_plugins_line(tmp_path: Path) -> None:
    """An exception of a plugin is shown with the line of the plugin, without the frames of the kit and the runner."""
    write(
        tmp_path,
        {
            "plugins/boom.py": (
                "from apisix import Plugin\n\nclass Boom(Plugin):\n    def on_request(self, request):\n        {}['missing']  # here\n"
            ),
            "test_boom.py": "def test_boom(client):\n    client.get('/', plugins=['boom'])\n",
        },
    )

    ran = run_pytest(tmp_path, "--tb=short", "--show-capture=no")
    assert ran.returncode == 1
    shown = ran.stdout.partition("= FAILURES =")[2]
    assert "plugins/boom.py:5: in on_request\n    {}['missing']  # here" in shown
    assert "KeyError: 'missing'" in shown
    assert "apisix/testing" not in shown
    assert "apisix/runner" not in shown


def test_fixture_of_the_author(tmp_path: Path) -> None:
    """A fixture `client` of the author replaces that of the kit, which is still available as `apisix_client`."""
    write(
        tmp_path,
        {
            "conftest.py": "import pytest\n\n@pytest.fixture\ndef client():\n    return 'mine'\n",
            "test_both.py": "def test_both(client, apisix_client):\n    assert client == 'mine'\n    apisix_client.get('/', plugins=[])\n",
        },
    )

    ran = run_pytest(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif("COVERAGE_PROCESS_CONFIG" in os.environ, reason="coverage.py imports modules itself")
def test_runner_is_not_imported(tmp_path: Path) -> None:
    """A test suite that does not use the fixture does not import the runner, and coverage.py measures all of it."""
    write(
        tmp_path,
        {
            "test_modules.py": (
                "import sys\n\ndef test_modules():\n"
                "    heavy = ('apisix.runner', 'uvloop', 'greenlet', 'msgspec', 'multidict')\n"
                "    assert [] == [name for name in sys.modules if name.startswith(heavy)]\n"
            )
        },
    )

    ran = run_pytest(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_entry_point(pytestconfig: pytest.Config) -> None:
    """pytest finds the plugin by its entry point, in this test suite too."""
    assert pytestconfig.pluginmanager.hasplugin("apisix")
