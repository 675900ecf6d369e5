# SPDX-License-Identifier: Apache-2.0
"""The command `new`."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from apisix.cli.commands import commands
from apisix.cli.scaffold import Names
from apisix.gateway.resources.standalone import RoutesFile
from apisix.gateway.resources.store import Store


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Change to an empty directory, and restore the logger of the runner."""
    monkeypatch.chdir(tmp_path)
    yield
    logging.getLogger("apisix").handlers.clear()
    logging.getLogger("apisix").propagate = True


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, prog_name="apisix-runner")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("hello", Names("hello", "Hello", "hello")),
        ("key-auth", Names("key-auth", "KeyAuth", "key_auth")),
        ("key_auth", Names("key-auth", "KeyAuth", "key_auth")),
        ("KeyAuth", Names("key-auth", "KeyAuth", "key_auth")),
        ("JWTAuth", Names("jwt-auth", "JWTAuth", "jwt_auth")),
        ("ABoom", Names("a-boom", "ABoom", "a_boom")),
        ("auth-2", Names("auth2", "Auth2", "auth2")),
    ],
)
def test_names(given: str, names: Names) -> None:
    """A name in any spelling determines the names of the class, the file and the route, as the runner derives them from the class."""
    assert Names.of(given) == names


@pytest.mark.parametrize("given", ["", "3x", "a b", "../x", "a.b", "-a", "Plugin", "request", "none", "x" * 65])
def test_wrong_names(given: str) -> None:
    """A name that can't be a class, or is the name of an imported class, is refused, and nothing is written."""
    result = invoke("new", "--", given)

    assert result.exit_code == 2
    assert "NAME" in result.output
    assert list(Path().iterdir()) == []


def test_output_in_the_documentation() -> None:
    """docs/getting-started.md shows what the command prints."""
    page = Path(__file__).parents[2].joinpath("docs", "getting-started.md").read_text(encoding="utf-8")
    output = "".join(f"    {line}\n" if line else "\n" for line in invoke("new", "hello").output.splitlines())

    assert f"    $ apisix-runner new hello\n{output}" in page


def test_created_files_work() -> None:
    """The created files pass their test and `check`, and work in the development gateway. The same applies to two plugins."""
    first, second = invoke("new", "hello"), invoke("new", "KeyGate")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.splitlines()[:3] == ["wrote plugins/hello.py", "wrote tests/test_hello.py", "wrote apisix.yaml"]
    assert second.output.splitlines()[2] == "added the route key-gate to apisix.yaml"
    assert "curl -i http://127.0.0.1:9080/key-gate" in second.output

    command = [sys.executable, "-m", "pytest", ".", "-W", "error", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 passed" in ran.stdout

    checked = invoke("check", "--plugins", "plugins", "apisix.yaml")
    assert (checked.exit_code, checked.output.strip()) == (0, "4 plugins, 2 configurations: no problems")

    problems: list[object] = []
    store = Store(lambda found: problems.extend(found))
    assert RoutesFile(Path("apisix.yaml"), store).load()
    assert problems == []


def test_created_files_pass_the_linters(cache: pytest.Cache) -> None:
    """The created files are formatted, and linters and type checkers report nothing."""
    invoke("new", "key-auth")

    for arguments in (
        ["ruff", "check", "--isolated", "."],
        ["ruff", "format", "--isolated", "--check", "."],
        # The cache of mypy is kept between runs, so that it does not analyze the libraries again.
        ["mypy", "--strict", "--cache-dir", str(cache.mkdir("mypy-of-new")), "plugins"],
    ):
        ran = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("present", ["plugins/hello.py", "tests/test_hello.py"])
def test_nothing_is_overwritten(present: str) -> None:
    """If a file exists, nothing is written."""
    path = Path(present)
    path.parent.mkdir()
    path.write_text("mine")

    result = invoke("new", "hello")

    assert (
        result.exit_code,
        result.output.strip(),
    ) == (1, f"Error: these files already exist: {present}; nothing was written. Choose another name, or remove them")
    assert [file for file in Path().rglob("*") if file.is_file()] == [path]
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"routes: []\n", "Add this to its `routes`:\n\n- id: hello\n"),
        (b"\xff", "Add this to its `routes`:"),
        (b"routes:\n  - id: hello\n    uri: /x\n#END\n", "apisix.yaml was not changed: it has a route with the id hello"),
    ],
)
def test_routes_that_are_not_changed(text: bytes, expected: str) -> None:
    """If a route can't be added to an apisix.yaml, the file is not changed, and the route to add is printed."""
    Path("apisix.yaml").write_bytes(text)

    result = invoke("new", "hello")

    assert result.exit_code == 0
    assert expected in result.output
    assert Path("apisix.yaml").read_bytes() == text


def test_directory_that_can_not_be_created() -> None:
    """If a file has the name of the directory, the message contains it."""
    Path("plugins").write_text("")

    result = invoke("new", "hello")

    assert result.exit_code == 1
    assert "Error: plugins/hello.py can't be written:" in result.output
