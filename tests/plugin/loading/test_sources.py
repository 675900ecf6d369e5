# SPDX-License-Identifier: Apache-2.0
"""Finding the modules of plugins, and the problems of files that can't be imported."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import PluginType, Problem
from tests.plugin.conftest import Load

HELLO = "from apisix import Plugin\nclass Hello(Plugin):\n    def on_request(self, request): ...\n"

BROKEN = {
    "syntax": ("class Broken(Plugin:\n", 2, "it can't be compiled: ", "Correct the syntax"),
    "null byte": ("\0", 1, "it can't be", "Correct the syntax"),
    "missing library": ("\nimport nowhere.at_all", 3, "it imports nowhere, which is missing", "Install nowhere for "),
    "missing sibling module": ("from .nothing import x", 2, "it imports nothing, which is missing", "put it next to the plugin"),
    "missing name": ("from apisix import Plugins", 2, "cannot import name 'Plugins' from 'apisix'", "Correct that line"),
    "name in a sibling module": ("from mylib import y", 2, "ImportError: cannot import name 'y' from 'mylib'", "Correct that line"),
    "exit": ("import sys\n\nsys.exit(3)", 4, "it exits while it is imported (SystemExit: 3)", "must only define functions and classes"),
    "raise": ("\n1/0", 3, "ZeroDivisionError: division by zero", "Correct that line"),
    "library's exception": ("import json\njson.loads('')", 3, "JSONDecodeError", "Correct that line"),
    "base exception": ("raise GeneratorExit", 2, "it can't be imported: GeneratorExit", "Correct that line"),
}


@pytest.mark.parametrize(("text", "line", "reason", "advice"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_does_not_import(load: Load, tmp_path: Path, text: str, line: int, reason: str, advice: str) -> None:
    """The problem has the line of the author's code. Other files are loaded. Routes that name the file's plugins are refused."""
    (tmp_path / "mylib.py").write_text("x = 1\n")
    registry = load(broken_one=text, hello=HELLO)
    assert [(problem.line, reason in problem.reason, advice in problem.advice) for problem in registry.problems] == [(line, True, True)], (
        registry.problems
    )
    assert registry.problems[0].file == str(tmp_path / "broken_one.py")
    for name in ("broken-one", "broken_one", "Broken_One"):
        assert registry.problems[0] is registry.get(name)
    assert isinstance(registry.get("hello"), PluginType)


def test_a_sibling_module_that_does_not_import(load: Load, tmp_path: Path) -> None:
    """The problem has the line in the sibling module, for each file that imports it."""
    (tmp_path / "_shared.py").write_text("x = 1\n1/0\n")
    registry = load(one="from _shared import x\n")
    assert [(problem.file, problem.line) for problem in registry.problems] == [(str(tmp_path / "_shared.py"), 2)]
    assert registry.problems[0] is registry.get("one")


def test_names_in_a_broken_file(load: Load) -> None:
    """The names of the plugins in a file are found by its classes, even if it is not valid Python."""
    registry = load(
        broken='''
        class KeyAuth(Plugin):
            name = "auth"
        class Plain(Plugin):
            name: ClassVar[str] = "typed"
        class Say(PluginBase):
            def name(self) -> str:
                """The name."""
                # a comment
                return "say-it"
        def (
        '''
    )
    names = ("key-auth", "KeyAuth", "key_auth", "auth", "typed", "say-it", "broken")
    assert {registry.get(name) for name in names} == {registry.problems[0]}
    assert registry.get("other") is None


def test_files_of_a_directory(tmp_path: Path) -> None:
    """Files and packages are loaded. Private ones, other files, and folders without `__init__.py` are not."""
    for file in ("one.py", "_two.py", ".three.py", "four.txt", "five/__init__.py", "six/code.py", "_seven/__init__.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        stem = Path(file).parent.name or Path(file).stem
        (tmp_path / file).write_text(HELLO.replace("Hello", "P" + stem.strip("._")))
    registry = Registry.load([tmp_path], builtins=False, entry_points=False)
    assert [found.name for found in registry.types] == ["pfive", "pone"]
    assert registry.problems == []


def test_a_package_has_the_plugins_of_its_modules(tmp_path: Path) -> None:
    """Plugins that a package imports from its own modules are loaded. They have the line where they are defined."""
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import Hello\nfrom apisix import Plugin\n")
    (package / "inner.py").write_text(HELLO)
    registry = Registry.load([tmp_path], builtins=False, entry_points=False)
    assert [(found.source.file, found.source.line) for found in registry.types] == [(str(package / "inner.py"), 2)]


def test_a_file_with_a_dot_in_its_name(tmp_path: Path) -> None:
    """It can't be a module, so it is a problem."""
    (tmp_path / "hello.v2.py").write_text(HELLO)
    registry = Registry.load([tmp_path], builtins=False, entry_points=False)
    assert [problem.reason for problem in registry.problems] == ["the name of the file contains a dot, so it can't be imported as a module"]
    assert str(registry.problems[0]).startswith(f"{tmp_path / 'hello.v2.py'}: the name of the file")


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_directory_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    """A directory that does not exist is a problem, and does not raise an error."""
    path = tmp_path / "plugins"
    if kind == "file":
        path.write_text("")
    registry = Registry.load([path], entry_points=False)
    assert [problem.file for problem in registry.problems] == [str(path)]
    assert "the directory of plugins can't be read: " in registry.problems[0].reason
    assert str(registry.problems[0]).startswith(f"{path}: the directory"), "a directory has no lines"
    assert ("Use the directory that contains the file" in registry.problems[0].advice) == (kind == "file")
    assert isinstance(registry.get("stop"), PluginType)


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package in a directory on `sys.path`."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / f"pack_{tmp_path.name}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "hello.py").write_text(HELLO)
    return package


def test_a_module_on_the_path(on_path: Path) -> None:
    """A module is given by its dotted name, and its plugins are loaded."""
    registry = Registry.load(modules=[f"{on_path.name}.hello"], builtins=False, entry_points=False)
    found = registry.get("hello")
    assert isinstance(found, PluginType)
    assert (found.source.kind, found.source.file, found.source.line) == ("module", str(on_path / "hello.py"), 2)


def test_a_module_that_is_missing(on_path: Path) -> None:
    """The problem differs from that of a module that imports a missing module."""
    (on_path / "needy.py").write_text("import nowhere\n")
    names = [f"{on_path.name}.nothing", "no_such_package.hello", f"{on_path.name}.needy"]
    registry = Registry.load(modules=names, builtins=False, entry_points=False)
    first, second, third = registry.problems
    assert first.reason == f"there is no module {on_path.name}.nothing"
    assert str(first).startswith(f"{on_path.name}.nothing: there is no module"), "a module that is missing has no lines"
    assert second.reason == "there is no module no_such_package"
    assert "or add its directory to PYTHONPATH" in second.advice
    assert third.reason == "it imports nowhere, which is missing"
    assert (third.file, third.line) == (str(on_path / "needy.py"), 1)
    assert third is registry.get("needy")


def test_entry_points(on_path: Path, tmp_path: Path) -> None:
    """Entry points can name classes and modules. One that can't be loaded is a problem."""
    (on_path / "more.py").write_text(HELLO.replace("Hello", "More"))
    info = tmp_path / "demo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
    points = f"[apisix.plugins]\nhello = {on_path.name}.hello:Hello\nmore = {on_path.name}.more\nbad = {on_path.name}.hello:Nothing\n"
    points += "worse-one = ???\n"
    points += f"no-class = {on_path.name}.hello:Plugin\nempty = {on_path.name}\n"
    points += f"faulty = {on_path.name}.faulty\n"
    (on_path / "faulty.py").write_text(HELLO.replace("Hello", "Faulty").replace("on_request", "on_reqest"))
    (info / "entry_points.txt").write_text(points)
    assert importlib.metadata.version("demo") == "1.0"
    registry = Registry.load(builtins=False)
    value = f"{on_path.name}.hello:Hello"
    label = "{} = {} in the group apisix.plugins of the distribution demo"
    assert label.format("hello", value) in {found.source.entry_point for found in registry.types}
    assert {found.name for found in registry.types} == {"hello", "more"}
    bad, worse, none, empty, faulty = registry.problems
    assert "has no attribute 'Nothing'" in bad.reason
    assert bad is registry.get("nothing")
    assert worse.reason == "it does not name a module"
    assert worse is registry.get("worse-one")
    assert "it contains no plugin class" == none.reason == empty.reason
    assert none is registry.get("no-class")
    assert faulty.reason == "Faulty.on_reqest is not a hook"
    for problem, name, value in (
        (bad, "bad", f"{on_path.name}.hello:Nothing"),
        (worse, "worse-one", "???"),
        (none, "no-class", f"{on_path.name}.hello:Plugin"),
        (empty, "empty", on_path.name),
        (faulty, "faulty", f"{on_path.name}.faulty"),
    ):
        assert f": entry point {label.format(name, value)}: {problem.reason}. " in str(problem)


def test_loading_does_not_change_the_path(load: Load) -> None:
    """Imports of other code must not find other modules because of plugins."""
    before = list(sys.path)
    load(hello=HELLO)
    assert sys.path == before


def test_builtin_samples_load() -> None:
    """The built-in plugins are loaded without a problem."""
    registry = Registry.load(entry_points=False)
    assert {"stop", "rewrite"} <= {found.name for found in registry.types}
    assert registry.problems == []
    assert not isinstance(registry.get("STOP"), Problem | None)
