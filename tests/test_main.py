# SPDX-License-Identifier: Apache-2.0
"""The command line, and how it finds the Python that it needs when the gateway spawns it."""

import ast
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apisix import __version__
from apisix.cli.start import read_arguments
from apisix.runner.settings.table import SETTINGS

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).resolve().parent.parent
WITHIN_S = 20.0
SPAWNED = {"PATH": "/usr/bin:/bin", "APISIX_CONF_EXPIRE_TIME": "3600"}  # all that the gateway gives, less its address


def run(*command: str | Path, cwd: Path | str = "/", environ: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command until it exits, as the gateway would start it."""
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environ or SPAWNED, timeout=WITHIN_S)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that contains only the code that finds the right Python."""
    for name in ("apisix/main.py", "bin/py-runner"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(CHECKOUT / name, tmp_path / name)
    return tmp_path


def make_venv(checkout: Path) -> None:
    """Create a `.venv` in a checkout, whose Python prints its command line."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    python.chmod(0o755)


@pytest.mark.parametrize("name", ["apisix/main.py", "bin/py-runner"])
def test_old_pythons_can_read_it(name: str) -> None:
    """The scripts are valid in Python 3.6, so that it can start the right Python."""
    assert ast.parse((CHECKOUT / name).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("name", ["apisix/main.py", "bin/py-runner"])
def test_goes_on_in_the_venv(checkout: Path, name: str) -> None:
    """Whichever Python starts the command, the checkout's `.venv` runs it, with the same arguments."""
    make_venv(checkout)
    done = run(sys.executable, checkout / name, "start", "--plugins", "a b")

    assert done.stdout.splitlines() == [str(checkout / part) for part in (".venv/bin/python", "apisix/main.py")] + [
        "start",
        "--plugins",
        "a b",
    ]


def test_goes_on_where_it_is_without_a_venv(checkout: Path) -> None:
    """In a container there is no `.venv`, but the Python has all required packages."""
    shutil.copytree(CHECKOUT / "apisix", checkout / "apisix", dirs_exist_ok=True)
    done = run(sys.executable, checkout / "apisix" / "main.py", "--version")

    # Compiled or not: in the copy, it is unknown whether a source was edited since.
    assert done.stdout.startswith(f"apisix-runner, version {__version__} ("), done.stderr


def test_says_what_is_missing(checkout: Path) -> None:
    """Without both, one sentence says which packages this Python lacks and what to do."""
    done = run(sys.executable, "-S", checkout / "apisix" / "main.py", "start")

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f"lacks click, greenlet, msgspec, multidict, structlog, uvloop, yaml, and there is no {checkout}/.venv: run `make install`"
        in done.stderr
    )


def test_venv_that_does_not_start(checkout: Path) -> None:
    """If the Python of a `.venv` was uninstalled, a message names the `.venv`, without a traceback."""
    make_venv(checkout)
    (checkout / ".venv/bin/python").write_text("#!/nowhere/python\n")
    done = run(sys.executable, checkout / "apisix" / "main.py", "start")

    assert (
        done.stderr == f"{checkout}/.venv/bin/python does not start (No such file or directory): run `make install` in {checkout} again\n"
    )


def test_its_own_directory_is_not_on_the_path(checkout: Path) -> None:
    """`import testing` in a plugin finds the plugin author's module, not `apisix/testing`."""
    commands = checkout / "apisix" / "cli" / "start.py"
    commands.parent.mkdir()
    (checkout / "apisix" / "__init__.py").touch()
    commands.write_text("import sys\ndef read_arguments(arguments): return {}\ndef start(flags): print(sys.path[0])")
    done = run(sys.executable, checkout / "apisix" / "main.py", "start")

    assert done.stdout == f"{checkout}\n"


@pytest.mark.parametrize(
    "command",
    [
        [str(CHECKOUT / "apisix" / "main.py")],
        [str(CHECKOUT / "bin" / "py-runner")],
        ["-m", "apisix"],
    ],
)
def test_serves_as_the_gateway_spawns_it(command: list[str], tmp_path: Path) -> None:
    """Without HOME and LANG, and from any directory, the runner listens on the gateway's path, and exits when it is told to."""
    path = tmp_path / "runner.sock"
    process = subprocess.Popen(
        [sys.executable, *command, "start"],
        env={**SPAWNED, "APISIX_LISTEN_ADDRESS": f"unix:{path}"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        connect(path, process).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        _, stderr = process.communicate()
    assert b"Traceback" not in stderr


def connect(path: Path, process: "subprocess.Popen[bytes]") -> socket.socket:
    """Connect when a process listens."""
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        else:
            return client


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ("start", {}),
        ("start --config a.yaml --socket /x", {"config": "a.yaml", "socket_file": "/x"}),
        ("start --socket=/x --log-level=debug", {"socket_file": "/x", "log_level": "debug"}),
        ("start --plugins a --plugins b --workers auto --reload", {"plugins": ("a", "b"), "workers": "auto", "reload": True}),
        ("", None),
        ("dev", None),
        ("start --help", None),
        ("start --socket", None),
        ("start --socket --reload", None),
        ("start --socket=", None),
        ("start --reload=yes", None),
        ("start --unknown x", None),
        ("start x", None),
    ],
)
def test_arguments_of_start(arguments: str, flags: dict[str, object] | None) -> None:
    """Plain arguments of `start` are read without click. All other arguments are left to click."""
    assert read_arguments(arguments.split()) == flags


def test_nothing_slow_is_imported_before_the_socket_opens() -> None:
    """Reading the settings and creating the supervisor do not import any of the slow libraries."""
    program = "import os, sys; import apisix.runner.supervisor.supervisor; from apisix.cli.start import gather, read_arguments;"
    program += "gather(read_arguments(['start']), {});"
    program += (
        "print(sorted({'click', 'structlog', 'asyncio', 'uvloop', 'multidict', 'greenlet', 'importlib.metadata'} & set(sys.modules)))"
    )
    done = run(sys.executable, "-c", program, cwd=CHECKOUT)

    assert done.stdout == "[]\n"


HEAVY = {
    *("asyncio", "concurrent.futures", "http.client", "importlib.metadata", "logging", "socket", "sqlite3", "ssl", "subprocess"),
    *(
        "email",
        "greenlet",
        "msgspec",
        "multidict",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "pytest",
        "rich",
        "structlog",
        "uvloop",
    ),
    *("yaml", "apisix.gateway", "apisix.runner", "apisix.testing"),
}
"""What the command line must not import unless a command needs it."""


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_command_line_imports_nothing_heavy(argument: str) -> None:
    """What an author types first needs click, and no library of the runner, the test kit or the development gateway."""
    program = "import sys, atexit; from apisix.main import main;"
    program += f"sys.argv = ['apisix-runner', {argument!r}];"
    program += "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    done = run(sys.executable, "-c", program, cwd=CHECKOUT)

    assert done.returncode == 0
    assert set(done.stderr.split()) & HEAVY == set()
    assert "click" in done.stderr.split()


def test_help_names_each_flag() -> None:
    """`start --help` shows all flags of the table."""
    done = run(sys.executable, "-m", "apisix", "start", "--help")

    assert [row.flag for row in SETTINGS if row.flag and row.flag not in done.stdout] == []


def test_wrong_flag() -> None:
    """An unknown flag is refused, and the most similar flag is suggested."""
    done = run(sys.executable, "-m", "apisix", "start", "--sokcet", "/x")

    assert done.returncode == 2
    assert "--socket" in done.stderr


@pytest.mark.parametrize("arguments", [["--config", "config.yaml"], ["--config=config.yaml"]])
def test_wrong_setting(tmp_path: Path, arguments: list[str]) -> None:
    """A wrong setting ends the start with status 2 and one sentence."""
    (tmp_path / "config.yaml").write_text("logging: {level: loud}")
    done = run(sys.executable, "-m", "apisix", "start", *arguments, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "apisix-runner: config.yaml, line 1: logging.level is 'loud', but must be one of error, warn, info or debug\n"


def test_file_named_by_the_environment(tmp_path: Path) -> None:
    """`APISIX_RUNNER_CONFIG` names the file as `--config` does."""
    (tmp_path / "config.yaml").write_text("logging: {level: loud}")
    done = run(sys.executable, "-m", "apisix", "start", environ={**os.environ, "APISIX_RUNNER_CONFIG": str(tmp_path / "config.yaml")})

    assert (done.returncode, "logging.level is 'loud'" in done.stderr) == (2, True)


def test_interrupted_while_it_is_imported(tmp_path: Path) -> None:
    """A Ctrl-C that comes early ends the command without a traceback."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    ended = run(sys.executable, "-m", "apisix", "dev", environ={"PYTHONPATH": str(tmp_path)})

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
