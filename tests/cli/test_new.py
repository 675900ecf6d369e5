# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner new`, as an author uses it."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from apisix.cli.commands import commands
from apisix.cli.new import Names
from apisix.gateway.resources.standalone import RoutesFile
from apisix.gateway.resources.store import Store


@pytest.fixture(autouse=True)
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty directory, and leave the logger of the runner as it was found."""
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
    """A name in any spelling gives those of the class, the file and the route, as the runner derives them from the class."""
    assert Names.of(given) == names


@pytest.mark.parametrize("given", ["", "3x", "a b", "../x", "a.b", "-a", "Plugin", "request", "none", "x" * 65])
def test_what_is_no_name(given: str) -> None:
    """What can't be a class, or is one already, is refused as a wrong argument, and nothing is written."""
    result = invoke("new", "--", given)

    assert result.exit_code == 2
    assert "NAME" in result.output
    assert list(Path().iterdir()) == []


def test_everything_that_is_written_works() -> None:
    """What `new` writes passes its own test, `check`, and the development gateway, as it is; two plugins side by side too."""
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


def test_written_files_are_clean(cache: pytest.Cache) -> None:
    """What is written is formatted, and has nothing that a linter or a type checker would point at."""
    invoke("new", "key-auth")

    for arguments in (
        ["ruff", "check", "--isolated", "."],
        ["ruff", "format", "--isolated", "--check", "."],
        # What mypy knows of the libraries is kept from run to run: 0.2 s instead of 2 s.
        ["mypy", "--strict", "--cache-dir", str(cache.mkdir("mypy-of-new")), "plugins"],
    ):
        ran = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("present", ["plugins/hello.py", "tests/test_hello.py"])
def test_nothing_is_overwritten(present: str) -> None:
    """Where a file is there already, nothing at all is written."""
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
    ("text", "said"),
    [
        (b"routes: []\n", "Add this to its `routes`:\n\n- id: hello\n"),
        (b"\xff", "Add this to its `routes`:"),
        (b"routes:\n  - id: hello\n    uri: /x\n#END\n", "did not change apisix.yaml: it has a route with the id hello"),
    ],
)
def test_routes_that_are_left_alone(text: bytes, said: str) -> None:
    """An apisix.yaml that can't be added to stays byte for byte, and the author is told what to add."""
    Path("apisix.yaml").write_bytes(text)

    result = invoke("new", "hello")

    assert result.exit_code == 0
    assert said in result.output
    assert Path("apisix.yaml").read_bytes() == text


def test_directory_that_cannot_be_written() -> None:
    """A file in the way of a directory is named."""
    Path("plugins").write_text("")

    result = invoke("new", "hello")

    assert result.exit_code == 1
    assert "Error: plugins/hello.py can't be written:" in result.output
