# SPDX-License-Identifier: Apache-2.0
"""
Do what an author of plugins does, with the built wheel only, and print how long each step takes.

`make verify-author` (`python -m tests.deploy.author`) installs the wheel in `dist/` in a fresh environment and directory, creates a plugin,
tests it, and calls it through the development gateway. Then it creates a project, installs and checks it, builds its wheel, and installs
that in another environment, which must find its plugin. Packages come from the package index that pip is configured for.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from tests.docs.pages import CHECKOUT
from tests.ports import reserved_port

DIST: Final = CHECKOUT / "dist"
COMMAND_LIMIT_S: Final = 300.0
START_LIMIT_S: Final = 30.0
POLL_S: Final = 0.01


def main() -> None:
    """Carry out all steps in a temporary directory. Exit with a message if one fails."""
    wheels = sorted(DIST.glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"expected one wheel in {DIST}, found {len(wheels)}; run: make wheel")
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"{wheels[0].name}, Python {python}, load average {os.getloadavg()[0]:.2f}\n\n| step | seconds |\n|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        write_a_plugin(Path(directory, "author"), wheels[0])
        write_a_project(Path(directory, "project"), wheels[0])


def write_a_plugin(directory: Path, wheel: Path) -> None:
    """Install the wheel, and create, test and call a plugin."""
    directory.mkdir()
    programs = environment(directory)
    run(directory, programs / "pip", "install", "--quiet", f"{wheel}[dev]", shown="pip install 'WHEEL[dev]'")
    run(directory, programs / "apisix-runner", "new", "hello")
    run(directory, programs / "pytest", ".")
    call_through_gateway(directory, programs / "apisix-runner")
    run(directory, programs / "apisix-runner", "check")


def call_through_gateway(directory: Path, program: Path) -> None:
    """Start the development gateway, and wait until it responds. Its ports are free ones, because the default ones may be in use."""
    with reserved_port() as port, reserved_port() as upstream:
        routes = directory / "apisix.yaml"
        routes.write_text(routes.read_text().replace(":1980", f":{upstream}"))
        command = [str(program), "dev", "--port", str(port), "--upstream-port", str(upstream), "--no-inspect"]
        start_s = time.monotonic()
        gateway = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
        try:
            body = first_response(gateway, f"http://127.0.0.1:{port}/hello")
            show("apisix-runner dev, until a request gets the response", start_s)
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(START_LIMIT_S)
    if json.loads(body)["headers"]["x-hello"] != "hello":
        sys.exit(f"the plugin has not added its header: {body!r}")


def first_response(gateway: subprocess.Popen[bytes], url: str) -> bytes:
    """Send a request until it gets a response. Exit if the gateway ends, or if START_LIMIT_S is over."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_LIMIT_S) as response:  # noqa: S310  http
                return bytes(response.read())
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline_s or gateway.poll() is not None:
                sys.exit(f"{url}: {error}")
        time.sleep(POLL_S)


def write_a_project(directory: Path, wheel: Path) -> None:
    """Create a project, install and check it as its workflow does, and install its wheel in another environment."""
    directory.mkdir()
    programs = environment(directory)
    run(directory, programs / "pip", "install", "--quiet", wheel, shown="pip install WHEEL")
    run(directory, programs / "apisix-runner", "new", "--project", "acme-plugins")
    project = directory / "acme-plugins"
    run(project, programs / "pip", "install", "--quiet", "--editable", ".[dev]", shown="pip install --editable '.[dev]'")
    for program, *arguments in (["pytest"], ["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["basedpyright"]):
        run(project, programs / program, *arguments)
    run(project, programs / "apisix-runner", "check")
    run(project, programs / "python", "-m", "build", "--wheel")
    fresh = directory / "fresh"
    fresh.mkdir()
    programs = environment(fresh)
    (built,) = project.joinpath("dist").glob("*.whl")
    run(fresh, programs / "pip", "install", "--quiet", wheel, built, shown="pip install WHEEL WHEEL-OF-THE-PROJECT")
    plugins = json.loads(run(fresh, programs / "apisix-runner", "plugins", "--json"))["plugins"]
    if "acme_plugins.hello:Hello" not in str([plugin["entry_point"] for plugin in plugins if plugin["name"] == "hello"]):
        sys.exit(f"the plugin of the project was not found: {plugins}")


def environment(directory: Path) -> Path:
    """Make a virtual environment in a directory. Returns: the directory of its programs."""
    run(directory, Path(sys.executable), "-m", "venv", ".venv", shown="python -m venv .venv")
    return directory / ".venv" / "bin"


def run(directory: Path, *command: str | Path, shown: str = "") -> str:
    """Run a command in a directory, print how long it took, and return its output. Exit if it fails."""
    program, *arguments = map(str, command)
    path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment, in which basedpyright finds packages
    environ = {**os.environ, "PATH": path, "PIP_FIND_LINKS": str(DIST), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    start_s = time.monotonic()
    done = subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT_S)
    show(shown or " ".join([Path(program).name, *arguments]), start_s)
    if done.returncode:
        sys.exit(f"exit status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def show(step: str, start_s: float) -> None:
    """Print how long a step took."""
    print(f"| `{step}` | {time.monotonic() - start_s:.1f} |", flush=True)


if __name__ == "__main__":
    main()
