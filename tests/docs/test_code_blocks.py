# SPDX-License-Identifier: Apache-2.0
"""Every block of Python in docs/ is run, or is taken from a file that is tested."""

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from apisix.cli.scaffold import render
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.loading.sources import ENTRY_POINT_GROUP
from apisix.testing import Client
from tests.docs.pages import CHECKOUT, DOCS, Block, blocks

GUIDE = DOCS / "guides" / "write.md"
TEST_GUIDE = DOCS / "guides" / "test.md"
"""Its blocks are files of a directory of their own: `tests/testing/test_documentation.py` runs them."""

PYTHON = [block for page in sorted(DOCS.rglob("*.md")) if page != TEST_GUIDE for block in blocks("python", page)]
PLUGINS = [block for block in PYTHON if block.place.startswith("plugins/") and not block.is_excerpt]
TESTS = [block for block in PYTHON if block.place.startswith("tests/")]
EXCERPTS = [block for block in PYTHON if block.is_excerpt]


def functions(block: Block) -> dict[str, Callable[..., object]]:
    """Run a block of tests and return its functions. Errors name the line of the page."""
    names: dict[str, Any] = {"__name__": "tests_of_the_page"}
    exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec"), names)  # noqa: S102  our own page
    return {name: value for name, value in names.items() if name.startswith("test_")}


def cases() -> Iterator[Any]:
    """Return each test of the pages, once for each of its parameters."""
    for block in TESTS:
        for name, function in functions(block).items():
            marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
            argnames, values = marks[0].args if marks else ((), [()])
            argnames = (argnames,) if isinstance(argnames, str) else argnames
            for number, each in enumerate(values):
                arguments = dict(zip(argnames, each if isinstance(each, tuple) else (each,), strict=True))
                yield pytest.param(function, arguments, id=f"{block.place}-{name}-{number}")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Return the plugins of all pages, each in the file that its first line names."""
    directory = tmp_path_factory.mktemp("pages")
    for block in PLUGINS:
        (directory / Path(block.place).name).write_text(block.code, encoding="utf-8")
    return Registry.load([directory])


def test_plugins_load(registry: Registry) -> None:
    """Routes can use all plugins of the pages, and each file contains at least one."""
    files = {Path(plugin.source.file).name for plugin in registry.types if plugin.source.kind == "directory"}

    assert registry.problems == []
    assert {Path(block.place).name for block in PLUGINS} == files


def test_each_file_name_is_used_once() -> None:
    """Two plugins of the pages can't have the same file."""
    assert len({block.place for block in PLUGINS}) == len(PLUGINS)


@pytest.mark.parametrize(("function", "arguments"), list(cases()))
def test_tests_pass(registry: Registry, function: Callable[..., object], arguments: dict[str, object]) -> None:
    """Each test on a page passes."""
    with Client(registry=registry) as client:
        function(**arguments, **({"client": client} if "client" in inspect.signature(function).parameters else {}))


@pytest.mark.parametrize("block", EXCERPTS, ids=lambda block: block.id)
def test_excerpts(block: Block) -> None:
    """An excerpt is part of the file that it names. `plugins/hello.py` is the file that `apisix-runner new hello` writes."""
    new = render("plugin/plugin.py", {"name": "hello", "cls": "Hello"})
    text = new if block.place == "plugins/hello.py" else (CHECKOUT / block.place).read_text(encoding="utf-8")

    assert block.code.partition("\n")[2] in text


def test_no_block_is_left_out() -> None:
    """Each block of Python names its file."""
    assert [block.id for block in PYTHON if block not in PLUGINS + TESTS + EXCERPTS] == []


def test_route(registry: Registry) -> None:
    """The route of the guide would run."""
    (block,) = blocks("yaml", GUIDE)
    (route,) = yaml.safe_load(block.code)["routes"]
    conf = [(entry["name"], entry["value"]) for entry in route["plugins"][Phase.PRE_REQ]["conf"]]

    assert block.code.rstrip().endswith("#END")
    assert build_chain(registry, RouteConfiguration("route#1#ext-plugin-pre-req#1", tuple(conf)), response=False).problem is None


def test_entry_point() -> None:
    """The group of entry points is the one that the runner reads."""
    (block,) = blocks("toml", GUIDE)

    assert list(tomllib.loads(block.code)["project"]["entry-points"]) == [ENTRY_POINT_GROUP]


def test_readme(tmp_path: Path) -> None:
    """The plugin of the README loads and accepts a configuration, and its test passes."""
    plugin, test = blocks("python", CHECKOUT / "README.md")
    (tmp_path / "key_auth.py").write_text(plugin.code, encoding="utf-8")
    registry = Registry.load([tmp_path])
    with Client(registry=registry) as client:
        functions(test)["test_unknown_key"](client)

    assert registry.problems == []
    assert build_chain(registry, RouteConfiguration(None, (("key-auth", '{"keys": ["a"]}'),)), response=False).problem is None


def test_commands_of_the_readme() -> None:
    """The README begins with what an author types. It has the two commands of the article of 2021, for which `make dev` must work."""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (curl .*)$", readme, re.MULTILINE)
    first = re.findall(r"^    (.+)$", readme, re.MULTILINE)[:3]

    assert first == ["pip install 'apisix-python-plugin-runner[dev]'", "apisix-runner new hello", "apisix-runner dev"]

    assert ["/apisix/admin/routes/1" in commands[0], commands[1]] == [True, "curl http://127.0.0.1:9080/get -i"]


def test_extra_for_authors() -> None:
    """The extra dev contains no tools of the maintainers."""
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    assert sorted(re.split(r"[>=\[]", requirement)[0] for requirement in extras["dev"]) == ["pydantic", "pytest", "rich"]
