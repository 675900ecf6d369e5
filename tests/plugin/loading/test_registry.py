# SPDX-License-Identifier: Apache-2.0
"""Which plugin belongs to a name in a route."""

import logging
from pathlib import Path

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import PluginType, Problem
from tests.plugin.conftest import HEAD, Load

NEW = "class {}(Plugin):\n    def on_request(self, request): ...\n"
BASE = "class {}(Base):\n    def filter(self, request, response): ...\n"
OLD = "class {0}(PluginBase):\n    def name(self): return '{0}'\n    def filter(self, conf, request, response): ...\n"


def directories(tmp_path: Path, *texts: dict[str, str]) -> list[Path]:
    """Write several directories of plugin files."""
    paths = []
    for number, files in enumerate(texts):
        path = tmp_path / str(number)
        path.mkdir()
        for stem, text in files.items():
            (path / f"{stem}.py").write_text(HEAD + text)
        paths.append(path)
    return paths


def test_names_of_base_plugins(load: Load) -> None:
    """A `Base` has the names of its file and its class, in upper or lower case."""
    registry = load(my_plugin=BASE.format("MyPlugin"), other=BASE.format("Quite_Different"))
    for name in ("my_plugin", "MyPlugin", "myplugin", "MY_PLUGIN"):
        found = registry.get(name)
        assert isinstance(found, PluginType)
        assert found.name == "my_plugin"
    assert registry.get("other") is registry.get("quite_different") is registry.get("QUITE_DIFFERENT")
    assert registry.get("my-plugin") is None


def test_names_of_other_plugins(load: Load) -> None:
    """The case of a name matters for plugins of the other APIs."""
    registry = load(new=NEW.format("KeyAuth"), old=OLD.format("Say"))
    assert isinstance(registry.get("key-auth"), PluginType)
    assert isinstance(registry.get("Say"), PluginType)
    assert (registry.get("Key-Auth"), registry.get("KeyAuth"), registry.get("say")) == (None, None, None)


def test_several_plugins_in_a_file(load: Load) -> None:
    """Each has its own name. The name of the file belongs to the class with the same name."""
    registry = load(first=BASE.format("First") + BASE.format("Second") + NEW.format("Third") + OLD.format("fourth"))
    assert registry.problems == []
    assert [found.name for found in registry.types] == ["first", "fourth", "second", "third"]


def test_a_file_with_several_base_plugins(load: Load) -> None:
    """If no class has the name of the file, no plugin has this name."""
    registry = load(several=BASE.format("First") + BASE.format("Second"))
    assert registry.get("several") is None
    assert [found.name for found in registry.types] == ["first", "second"]


@pytest.mark.parametrize("text", [NEW.format("Stop"), BASE.format("Stop"), OLD.format("stop")])
def test_a_users_plugin_replaces_a_builtin(load: Load, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A plugin of the user replaces the built-in plugin of the same name. This is logged at level info."""
    with caplog.at_level(logging.INFO):
        registry = load(stop=text, builtins=True)
    found = registry.get("stop")
    assert isinstance(found, PluginType)
    assert found.source.kind == "directory"
    assert registry.problems == []
    assert [held.name for held in registry.types] == ["rewrite", "stop"]
    expected = f"plugin stop of {found.source} replaces the built-in plugin"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.INFO, expected)]


@pytest.mark.parametrize("name", ["STOP", "Stop"])
def test_a_name_that_differs_in_case_replaces_no_builtin(load: Load, name: str) -> None:
    """The name `stop` belongs to the built-in plugin, and the exact name of the user's plugin to the user's plugin."""
    registry = load(mine=NEW.format("Mine") + f"    name = {name!r}\n", builtins=True)
    found, builtin = registry.get(name), registry.get("stop")
    assert isinstance(found, PluginType)
    assert isinstance(builtin, PluginType)
    assert (found.source.kind, builtin.source.kind) == ("directory", "builtin")
    assert [held.name for held in registry.types] == sorted([name, "rewrite", "stop"])


def test_a_broken_user_file_replaces_a_builtin(load: Load) -> None:
    """The built-in plugin must not run instead of the broken one. The problem explains this."""
    registry = load(stop="1/0\n", builtins=True)
    problem = registry.get("stop")
    assert isinstance(problem, Problem)
    assert registry.problems == [problem]
    assert problem.reason.endswith("; the built-in plugin stop is not used in its place, so routes that name stop are refused")


def test_a_refused_file_with_two_builtins_names(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Both names belong to one problem, which contains both names and is logged once."""
    registry = load(both="class Stop(Plugin): ...\nclass Rewrite(Plugin): ...\n1/0\n", builtins=True)
    (problem,) = registry.problems
    assert registry.get("stop") is registry.get("rewrite") is problem
    assert "the built-in plugins rewrite, stop are not used in its place, so routes that name them are refused" in problem.reason
    assert [record.getMessage() for record in caplog.records] == [f"a plugin is refused: {problem}"]


def test_two_that_would_replace_a_builtin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither replaces the built-in plugin, and no log line says that one does."""
    paths = directories(tmp_path, {"stop": NEW.format("Stop")}, {"stop": NEW.format("Stop")})
    with caplog.at_level(logging.INFO):
        registry = Registry.load(paths, entry_points=False)
    problem = registry.get("stop")
    assert isinstance(problem, Problem)
    assert "; the built-in plugin stop is not used in its place" in problem.reason
    assert [record.getMessage() for record in caplog.records] == [f"a plugin is refused: {problem}"]


LOOKS = {
    "on_request": (
        "class Stop:\n    def on_request(self, request): ...\n",
        "write class Stop(Plugin), with from apisix import Plugin",
    ),
    "on_response": (
        "class Stop:\n    async def on_response(self, response): ...\n",
        "write class Stop(Plugin), with from apisix import Plugin",
    ),
    "release 0.1": (
        "class Stop:\n    def filter(self, request, response): ...\n",
        "write class Stop(Base), with from apisix.runner.plugin.base import Base",
    ),
    "release 0.2": (
        "class Any:\n    def name(self): return 'stop'\n    def filter(self, conf, request, response): ...\n",
        "write class Any(PluginBase), with from apisix.runner.plugin.core import PluginBase",
    ),
    "name": (
        "class Any:\n    name = 'stop'\n    def on_request(self, request): ...\n",
        "write class Any(Plugin), with from apisix import Plugin",
    ),
}


@pytest.mark.parametrize(("text", "advice"), LOOKS.values(), ids=LOOKS)
def test_a_class_that_derives_from_nothing(load: Load, tmp_path: Path, text: str, advice: str) -> None:
    """
    A class that only looks like a plugin is a problem. The message contains the line to write. A built-in plugin does not run instead of
    it.
    """
    registry = load(guard=text, other=NEW.format("Other"), builtins=True)
    (problem,) = registry.problems
    assert (problem.file, problem.line) == (str(tmp_path / "guard.py"), 2)
    assert "looks like a plugin, because it has " in problem.reason
    assert "but it does not derive from a plugin class" in problem.reason
    assert advice in problem.advice
    assert registry.get("stop") is problem
    assert isinstance(registry.get("other"), PluginType)


NO_LOOKS = {
    "filter of a log": "import logging\nclass Redact(logging.Filter):\n    def filter(self, record): ...\n",
    "duck-typed filter of a log": "class Redact:\n    def filter(self, record): ...\n",
    "private": "class _Helper:\n    def on_request(self, request): ...\n",
    "mixin": "class Mixin:\n    def on_request(self, request): ...\nclass Real(Mixin, Plugin): ...\n",
    "protocol": "import typing\nclass Hooks(typing.Protocol):\n    def on_request(self, request): ...\n",
    "of a library": "import threading\nclass Hooks(threading.Thread):\n    def on_request(self, request): ...\n",
    "data": "class Data:\n    on_request: bool = True\n",
    "function": "def on_request(request): ...\n",
}


@pytest.mark.parametrize("text", NO_LOOKS.values(), ids=NO_LOOKS)
def test_a_class_that_is_something_else(load: Load, text: str) -> None:
    """Helpers, log filters and mixin classes of plugins are not problems."""
    assert load(helpers=text).problems == []


def test_a_mixin_in_another_file(load: Load) -> None:
    """The order in which the files are loaded does not matter."""
    for first, second in (("a_mixin", "b_plugin"), ("d_mixin", "c_plugin")):
        mixin = "class Mixin:\n    def on_request(self, request): ...\n"
        plugin = f"from {first} import Mixin\nclass Real{first[0]}(Mixin, Plugin): ...\n"
        registry = load(**{first: mixin, second: plugin})
        assert registry.problems == []


def test_a_look_alike_does_not_replace_a_plugin(load: Load) -> None:
    """If a helper with a hook has the name of a plugin, an error is logged, but the plugin is loaded."""
    helper = "class Auth:\n    name = 'real'\n    def on_request(self, request): ...\n"
    registry = load(auth=helper, real=NEW.format("Real"), other=NEW.format("Other") + "    name = 'auth'\n")
    assert isinstance(registry.get("real"), PluginType)
    assert isinstance(registry.get("auth"), PluginType)
    assert len(registry.problems) == 1


@pytest.mark.parametrize("other", [NEW.format("Same"), OLD.format("same"), BASE.format("Same")])
def test_one_name_from_two_sources(tmp_path: Path, other: str) -> None:
    """Both are refused. The problem contains both files and lines. Other plugins are loaded."""
    paths = directories(tmp_path, {"same": NEW.format("Same"), "fine": NEW.format("Fine")}, {"same": "\n" + other})
    registry = Registry.load(paths, builtins=False, entry_points=False)
    problem = registry.get("same")
    assert isinstance(problem, Problem)
    assert registry.problems == [problem]
    assert f"{paths[0] / 'same.py'}:2, {paths[1] / 'same.py'}:3" in problem.reason
    assert [found.name for found in registry.types] == ["fine"]


def test_one_name_twice_in_a_file(load: Load) -> None:
    """Two plugins of one file can't have the same name."""
    registry = load(both=NEW.format("One") + "    name = 'same'\n" + NEW.format("Two") + "    name = 'same'\n")
    assert isinstance(registry.get("same"), Problem)
    assert registry.types == []


def test_files_with_the_same_name_and_different_plugins(tmp_path: Path) -> None:
    """Two directories can contain files with the same name."""
    registry = Registry.load(
        directories(tmp_path, {"auth": NEW.format("One")}, {"auth": NEW.format("Two")}), builtins=False, entry_points=False
    )
    assert [found.name for found in registry.types] == ["one", "two"]
    assert registry.problems == []


def test_only_the_shared_name_is_refused(tmp_path: Path) -> None:
    """If two `Base` classes have the same name, each plugin still has the name of its file."""
    registry = Registry.load(
        directories(tmp_path, {"one": BASE.format("Same"), "two": BASE.format("Same")}), builtins=False, entry_points=False
    )
    assert isinstance(registry.get("same"), Problem)
    assert isinstance(registry.get("one"), PluginType)
    assert isinstance(registry.get("two"), PluginType)


def test_one_of_two_is_faulty(tmp_path: Path) -> None:
    """If two plugins claim a name and one of them has a mistake, neither is loaded under the name."""
    paths = directories(tmp_path, {"a": NEW.format("Same")}, {"b": NEW.format("Same") + "    def on_reqest(self): ...\n"})
    registry = Registry.load(paths, builtins=False, entry_points=False)
    assert isinstance(registry.get("same"), Problem)


def test_a_guessed_name_does_not_replace_a_plugin(tmp_path: Path) -> None:
    """The guessed names of a file that can't be imported are used only if no plugin of the user has them."""
    paths = directories(tmp_path, {"auth": "1/0"}, {"other": NEW.format("Auth")})
    registry = Registry.load(paths, builtins=False, entry_points=False)
    assert isinstance(registry.get("auth"), PluginType)
    assert len(registry.problems) == 1


def test_a_directory_that_is_given_twice(tmp_path: Path) -> None:
    """It is loaded once."""
    (path,) = directories(tmp_path, {"one": NEW.format("One")})
    registry = Registry.load([path, f"{path}/../{path.name}", path], builtins=False, entry_points=False)
    assert registry.problems == []
    assert [found.name for found in registry.types] == ["one"]


def test_a_file_that_is_found_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is found in a directory and as a module is one plugin."""
    stem = f"way_{tmp_path.name}"
    (path,) = directories(tmp_path, {stem: NEW.format("One")})
    monkeypatch.syspath_prepend(path)
    registry = Registry.load([path], [stem], builtins=False, entry_points=False)
    assert registry.problems == []
    assert isinstance(registry.get("one"), PluginType)


def test_problems_are_logged(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """The log line contains file, line, reason and what to do."""
    registry = load(broken="import nowhere\n")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"a plugin is refused: {registry.problems[0]}"
    assert "broken.py:2: it imports nowhere, which is missing. Install nowhere for " in record.getMessage()


def test_missing_package_with_another_name(tmp_path: Path) -> None:
    """If the docstring of a plugin describes how to install its packages, the message repeats that: their names can differ."""
    (tmp_path / "broken.py").write_text('"""Check (`pip\ninstall "PyNowhere[x]"`)."""\nimport nowhere\n', encoding="utf-8")
    registry = Registry.load([tmp_path])

    assert str(registry.problems[0]).endswith('it imports nowhere, which is missing. Its docstring describes: pip install "PyNowhere[x]"')


def test_suggest(load: Load) -> None:
    """The most similar name is suggested, if there is a similar one."""
    registry = load(new=NEW.format("KeyAuth"))
    assert registry.suggest("key-aut") == "key-auth"
    assert registry.suggest("zzz") is None
