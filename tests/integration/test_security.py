# SPDX-License-Identifier: Apache-2.0
"""Users who may not connect get nothing, created files are private from the start, and no input is ever executed as code."""

import ast
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.other_user import NOBODY, ask_as, needs_root
from tests.runner_process import RunnerProcess, running, wait_until_accepting

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "apisix").rglob("*.py"))


@needs_root
def test_another_user_that_the_mode_lets_in() -> None:
    """If the mode allows everybody to connect, a user who is not allowed only gets a closed connection, and the log contains the user."""
    with running(environ={"APISIX_RUNNER_SOCKET_MODE": "0666"}) as runner:
        runner.path.parent.chmod(0o755)
        assert ask_as(NOBODY, runner.path) == "b''"
        runner.wait_for_log("was refused. If that is the gateway, add the user to socket.allow_users")
        with runner.peer() as ours:
            assert ours.prepare() > 0


@needs_root
def test_another_user_by_default() -> None:
    """With the default mode of the file, other users can't connect."""
    with running() as runner:
        runner.path.parent.chmod(0o755)
        assert "PermissionError" in ask_as(NOBODY, runner.path)


class Watcher:
    """List a directory as often as possible. `seen` contains the least strict mode that each name ever had."""

    def __init__(self, directory: Path) -> None:
        self.seen: dict[str, int] = {}
        self.looks = 0
        self._directory = directory
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        """Stop listing the directory."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.looks += 1
            for path in self._paths():
                try:
                    mode = stat.S_IMODE(os.lstat(path).st_mode)
                except OSError:
                    continue
                self.seen[path] = self.seen.get(path, 0) | mode

    def _paths(self) -> Iterator[str]:
        for directory, names, files in os.walk(self._directory):
            yield from (os.path.join(directory, name) for name in (*names, *files))


def test_files_are_private_from_the_start(tmp_path: Path) -> None:
    """Even with umask 0, other users have no permission for the socket or the store at any moment, nor for temporary names and journals."""
    for start in ("1", "2", "3"):
        directory = tmp_path / start
        directory.mkdir()
        path = directory / "runner.sock"
        log = tmp_path / "log"
        watcher = Watcher(directory)
        with log.open("ab") as stderr:
            process = subprocess.Popen([sys.executable, "-m", "apisix", "start", "--socket", str(path)], umask=0, stderr=stderr)
        runner = RunnerProcess(path, process, log)
        try:
            wait_until_accepting(runner)
            with runner.peer() as peer:
                peer.prepare(("stop", "{}"))
        finally:
            runner.stop()
            watcher.end()
        assert {str(path), f"{path}.conf", f"{path}.conf/tokens.sqlite"} <= set(watcher.seen)
        assert {name: oct(mode) for name, mode in watcher.seen.items() if mode & 0o077} == {}
        assert watcher.looks > 100


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "jsonpickle", "copyreg", "xmlrpc"}
ALLOWED_CALLS = {
    ("apisix/runner/plugin/loading/sibling_modules.py", "compile"): "the file of a plugin, as its import would",
    ("apisix/cli/routes/files.py", "yaml.load_all"): "with a subclass of SafeLoader",
}
"""By file and call: why it is not dangerous."""


def dangers(tree: ast.AST) -> Iterator[str]:
    """Return the calls that could execute input as code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            shell = any(keyword.arg == "shell" for keyword in node.keywords)
            # yaml.load takes any loader; the functions that name a safe one are allowed.
            unsafe_yaml = (
                name.startswith("yaml.") and name.endswith(("load", "load_all")) and "safe" not in name and "Safe" not in ast.unparse(node)
            )
            if name in FORBIDDEN_CALLS or name in ("os.system", "os.popen") or shell or unsafe_yaml:
                yield name


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_evaluated_or_unpickled(file: Path) -> None:
    """No module executes text as code, unpickles, starts a shell, or loads YAML with an unsafe loader."""
    found = {danger for danger in dangers(ast.parse(file.read_text())) if (str(file.relative_to(ROOT)), danger) not in ALLOWED_CALLS}
    assert set() == found


def test_dangers_are_found() -> None:
    """Proves that the test above can fail."""
    code = """
import pickle
from marshal import loads
eval(text)
yaml.load(file)
yaml.load(file, Loader=yaml.Loader)
subprocess.run(command, shell=True)
os.system(command)
"""
    expected = ["pickle", "marshal", "eval", "yaml.load", "yaml.load", "subprocess.run", "os.system"]
    assert list(dangers(ast.parse(code))) == expected
    assert list(dangers(ast.parse("yaml.safe_load(f)\nyaml.load(f, Loader=SafeLoader)\nre.compile(x)\nast.literal_eval(x)"))) == []
