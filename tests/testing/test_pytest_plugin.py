# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin, in projects of plugin authors."""

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
    assert "hello from {place}" == client.get("/", plugins=["hello"]).reply.text
"""


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as an author does, with warnings as errors, and without plugins that do not matter here."""
    others = [argument for name in ("asyncio", "anyio", "cacheprovider", "hypothesispytest", "xdist") for argument in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-W", "error", *others, *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def write(directory: Path, files: dict[str, str]) -> None:
    """Write files, with the directories that they stand in."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def test_plugins_of_the_root_directory(tmp_path: Path) -> None:
    """Plugins come from plugins/ under pytest's root directory, wherever in it pytest is started."""
    write(
        tmp_path,
        {
            "pytest.ini": "[pytest]\n",
            "plugins/hello.py": HELLO.format(place="the root"),
            "tests/test_hello.py": TEST.format(place="the root"),
        },
    )

    ran = run_pytest(tmp_path / "tests")
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_plugins_where_pytest_is_started(tmp_path: Path) -> None:
    """In a part of a larger project, which has pytest's root directory, the part's plugins/ count too."""
    write(
        tmp_path,
        {
            "pytest.ini": "[pytest]\n",
            "part/plugins/hello.py": HELLO.format(place="a part"),
            "part/tests/test_hello.py": TEST.format(place="a part"),
        },
    )

    ran = run_pytest(tmp_path / "part", ".")
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_option(tmp_path: Path) -> None:
    """Further directories are named by an option, any number of times."""
    write(
        tmp_path,
        {
            "one/hello.py": HELLO.format(place="one"),
            "two/other.py": HELLO.format(place="two").replace("Hello", "Other"),
            "test_both.py": TEST.format(place="one")
            + "\n\ndef test_other(apisix_client):\n    assert 'hello from two' == apisix_client.get('/', plugins=['other']).reply.text\n",
        },
    )

    ran = run_pytest(tmp_path, "--apisix-plugins", "one", "--apisix-plugins=two")
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_option_that_names_no_directory(tmp_path: Path) -> None:
    """A directory that is not there is a mistake in the command, and is told before anything runs."""
    ran = run_pytest(tmp_path, "--apisix-plugins", "nowhere")

    assert (4, f"ERROR: --apisix-plugins: there is no directory {tmp_path}/nowhere") == (ran.returncode, ran.stderr.strip())


def test_failure_shows_the_plugins_line(tmp_path: Path) -> None:
    """A plugin's exception is shown with the plugin's own line, and without the frames of the kit and the runner around it."""
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
    assert 1 == ran.returncode
    shown = ran.stdout.partition("= FAILURES =")[2]
    assert "plugins/boom.py:5: in on_request\n    {}['missing']  # here" in shown
    assert "KeyError: 'missing'" in shown
    assert "apisix/testing" not in shown
    assert "apisix/runner" not in shown


def test_client_of_ones_own(tmp_path: Path) -> None:
    """A fixture `client` of the author's own takes the place of ours, which can still be had."""
    write(
        tmp_path,
        {
            "conftest.py": "import pytest\n\n@pytest.fixture\ndef client():\n    return 'mine'\n",
            "test_both.py": "def test_both(client, apisix_client):\n    assert 'mine' == client\n    apisix_client.get('/', plugins=[])\n",
        },
    )

    ran = run_pytest(tmp_path)
    assert 0 == ran.returncode, ran.stdout + ran.stderr


@pytest.mark.skipif("COVERAGE_PROCESS_CONFIG" in os.environ, reason="coverage.py imports modules itself")
def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """A test-suite that does not use the fixture pays for none of the runner, and coverage sees all of it."""
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
    assert 0 == ran.returncode, ran.stdout + ran.stderr


def test_our_own_suite_has_it(pytestconfig: pytest.Config) -> None:
    """The plugin is found by its entry point, here too."""
    assert pytestconfig.pluginmanager.hasplugin("apisix")
