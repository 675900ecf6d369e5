# SPDX-License-Identifier: Apache-2.0
"""Which plugin a route's name leads to."""

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
    """A `Base` is reached by its file's and its class's name, without case."""
    registry = load(my_plugin=BASE.format("MyPlugin"), other=BASE.format("Quite_Different"))
    for name in ("my_plugin", "MyPlugin", "myplugin", "MY_PLUGIN"):
        found = registry.get(name)
        assert isinstance(found, PluginType)
        assert "my_plugin" == found.name
    assert registry.get("other") is registry.get("quite_different") is registry.get("QUITE_DIFFERENT")
    assert registry.get("my-plugin") is None


def test_names_of_other_plugins(load: Load) -> None:
    """Names of the other generations are taken as they are written."""
    registry = load(new=NEW.format("KeyAuth"), old=OLD.format("Say"))
    assert isinstance(registry.get("key-auth"), PluginType)
    assert isinstance(registry.get("Say"), PluginType)
    assert (None, None, None) == (registry.get("Key-Auth"), registry.get("KeyAuth"), registry.get("say"))


def test_several_plugins_in_a_file(load: Load) -> None:
    """Each has its own name; the file's name means the one that is called like it."""
    registry = load(first=BASE.format("First") + BASE.format("Second") + NEW.format("Third") + OLD.format("fourth"))
    assert [] == registry.problems
    assert ["first", "fourth", "second", "third"] == [found.name for found in registry.types]


def test_a_file_with_several_bases_means_none(load: Load) -> None:
    """Where no class is called like the file, its name means nothing."""
    registry = load(several=BASE.format("First") + BASE.format("Second"))
    assert registry.get("several") is None
    assert ["first", "second"] == [found.name for found in registry.types]


@pytest.mark.parametrize("text", [NEW.format("Stop"), BASE.format("Stop"), OLD.format("stop")])
def test_a_user_replaces_a_builtin(load: Load, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A user's plugin replaces the built-in plugin of the same name, with an info line."""
    with caplog.at_level(logging.INFO):
        registry = load(stop=text, builtins=True)
    found = registry.get("stop")
    assert isinstance(found, PluginType)
    assert "directory" == found.source.kind
    assert [] == registry.problems
    assert ["rewrite", "stop"] == [held.name for held in registry.types]
    expected = f"plugin stop of {found.source} replaces the built-in plugin"
    assert [(logging.INFO, expected)] == [(record.levelno, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("name", ["STOP", "Stop"])
def test_a_name_that_differs_in_case_replaces_no_builtin(load: Load, name: str) -> None:
    """Routes that name `stop` get the built-in plugin, and those that name the user's plugin as it is spelled get that."""
    registry = load(mine=NEW.format("Mine") + f"    name = {name!r}\n", builtins=True)
    found, builtin = registry.get(name), registry.get("stop")
    assert isinstance(found, PluginType)
    assert isinstance(builtin, PluginType)
    assert (found.source.kind, builtin.source.kind) == ("directory", "builtin")
    assert [held.name for held in registry.types] == sorted([name, "rewrite", "stop"])


def test_a_broken_user_file_replaces_a_builtin(load: Load) -> None:
    """What was to take the place of a built-in plugin must not be answered by that, and the problem says so."""
    registry = load(stop="1/0\n", builtins=True)
    problem = registry.get("stop")
    assert isinstance(problem, Problem)
    assert [problem] == registry.problems
    assert problem.reason.endswith("; the built-in plugin stop is not used in its place, so routes that name stop are refused")


def test_a_refused_file_with_two_builtins_names(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """The log and each name lead to one problem, which says all names."""
    registry = load(both="class Stop(Plugin): ...\nclass Rewrite(Plugin): ...\n1/0\n", builtins=True)
    (problem,) = registry.problems
    assert registry.get("stop") is registry.get("rewrite") is problem
    assert "the built-in plugins rewrite, stop are not used in its place, so routes that name them are refused" in problem.reason
    assert [record.getMessage() for record in caplog.records] == [f"a plugin is refused: {problem}"]


def test_two_that_would_replace_a_builtin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing takes the place of the built-in plugin, and nothing says that something does."""
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
    """A class that looks like a plugin is refused with the line to write, and a built-in plugin does not run in its place."""
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
    """Helpers, filters of logs and the common part of plugins are no problems."""
    assert load(helpers=text).problems == []


def test_a_mixin_in_another_file(load: Load) -> None:
    """Whichever file is loaded first."""
    for first, second in (("a_mixin", "b_plugin"), ("d_mixin", "c_plugin")):
        mixin = "class Mixin:\n    def on_request(self, request): ...\n"
        plugin = f"from {first} import Mixin\nclass Real{first[0]}(Mixin, Plugin): ...\n"
        registry = load(**{first: mixin, second: plugin})
        assert registry.problems == []


def test_a_look_alike_takes_no_name_away(load: Load) -> None:
    """A helper with a hook's name beside a plugin of the same name costs an error in the log, not the plugin."""
    helper = "class Auth:\n    name = 'real'\n    def on_request(self, request): ...\n"
    registry = load(auth=helper, real=NEW.format("Real"), other=NEW.format("Other") + "    name = 'auth'\n")
    assert isinstance(registry.get("real"), PluginType)
    assert isinstance(registry.get("auth"), PluginType)
    assert len(registry.problems) == 1


@pytest.mark.parametrize("other", [NEW.format("Same"), OLD.format("same"), BASE.format("Same")])
def test_one_name_from_two_sources(tmp_path: Path, other: str) -> None:
    """Both are refused, and the problem names both files and lines; the rest loads."""
    paths = directories(tmp_path, {"same": NEW.format("Same"), "fine": NEW.format("Fine")}, {"same": "\n" + other})
    registry = Registry.load(paths, builtins=False, entry_points=False)
    problem = registry.get("same")
    assert isinstance(problem, Problem)
    assert [problem] == registry.problems
    assert f"{paths[0] / 'same.py'}:2, {paths[1] / 'same.py'}:3" in problem.reason
    assert ["fine"] == [found.name for found in registry.types]


def test_one_name_twice_in_a_file(load: Load) -> None:
    """Two plugins of one file can't share a name either."""
    registry = load(both=NEW.format("One") + "    name = 'same'\n" + NEW.format("Two") + "    name = 'same'\n")
    assert isinstance(registry.get("same"), Problem)
    assert [] == registry.types


def test_files_of_one_name_with_different_plugins(tmp_path: Path) -> None:
    """Two directories may have files of one name."""
    registry = Registry.load(
        directories(tmp_path, {"auth": NEW.format("One")}, {"auth": NEW.format("Two")}), builtins=False, entry_points=False
    )
    assert ["one", "two"] == [found.name for found in registry.types]
    assert [] == registry.problems


def test_only_the_shared_name_is_refused(tmp_path: Path) -> None:
    """A `Base` that shares its class's name with another is still reached by its file's."""
    registry = Registry.load(
        directories(tmp_path, {"one": BASE.format("Same"), "two": BASE.format("Same")}), builtins=False, entry_points=False
    )
    assert isinstance(registry.get("same"), Problem)
    assert isinstance(registry.get("one"), PluginType)
    assert isinstance(registry.get("two"), PluginType)


def test_one_of_two_is_faulty(tmp_path: Path) -> None:
    """That one of two sources of a name is faulty does not make the other right."""
    paths = directories(tmp_path, {"a": NEW.format("Same")}, {"b": NEW.format("Same") + "    def on_reqest(self): ...\n"})
    registry = Registry.load(paths, builtins=False, entry_points=False)
    assert isinstance(registry.get("same"), Problem)


def test_a_guess_does_not_take_a_name_away(tmp_path: Path) -> None:
    """A file that does not import only claims names that no loaded plugin of the user's bears."""
    paths = directories(tmp_path, {"auth": "1/0"}, {"other": NEW.format("Auth")})
    registry = Registry.load(paths, builtins=False, entry_points=False)
    assert isinstance(registry.get("auth"), PluginType)
    assert 1 == len(registry.problems)


def test_a_directory_that_is_given_twice(tmp_path: Path) -> None:
    """It is loaded once."""
    (path,) = directories(tmp_path, {"one": NEW.format("One")})
    registry = Registry.load([path, f"{path}/../{path.name}", path], builtins=False, entry_points=False)
    assert [] == registry.problems
    assert ["one"] == [found.name for found in registry.types]


def test_one_file_by_two_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is found in a directory and as a module is one plugin."""
    stem = f"way_{tmp_path.name}"
    (path,) = directories(tmp_path, {stem: NEW.format("One")})
    monkeypatch.syspath_prepend(path)
    registry = Registry.load([path], [stem], builtins=False, entry_points=False)
    assert [] == registry.problems
    assert isinstance(registry.get("one"), PluginType)


def test_problems_are_logged(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """The log says file, line, reason and what to do."""
    registry = load(broken="import nowhere\n")
    (record,) = caplog.records
    assert logging.ERROR == record.levelno
    assert f"a plugin is refused: {registry.problems[0]}" == record.getMessage()
    assert "broken.py:2: it imports nowhere, which is missing. Install nowhere for " in record.getMessage()


def test_suggest(load: Load) -> None:
    """An unknown name gets the nearest one, where one is near."""
    registry = load(new=NEW.format("KeyAuth"))
    assert "key-auth" == registry.suggest("key-aut")
    assert registry.suggest("zzz") is None
