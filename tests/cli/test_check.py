# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner check`, `plugins` and `schema`, as a person or a pipeline uses them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from apisix.cli.commands import commands

PLUGIN = '''
from dataclasses import dataclass

from apisix import Plugin, Request


@dataclass
class SayConfig:
    times: int


class Say(Plugin[SayConfig]):
    """Say it to the upstream."""

    def on_request(self, request: Request) -> None:
        request.headers["x-say"] = "it"
'''


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Leave the logger of the runner as it was found: the commands silence it."""
    logger = logging.getLogger("apisix")
    yield
    logger.handlers.clear()
    logger.propagate = True


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A directory with one plugin, `say`."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "say.py").write_text(PLUGIN)
    return directory


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments], prog_name="apisix-runner")


def check(plugins: Path, name: str, text: str) -> tuple[int, list[str]]:
    """Check a file of routes. Returns: the exit status and the lines, less the directory."""
    file = plugins.parent / name
    file.write_text(text)
    result = invoke("check", "--plugins", plugins, file)
    return result.exit_code, result.output.replace(f"{plugins.parent}/", "").splitlines()


def test_all_is_well(plugins: Path) -> None:
    """Routes that production would run end in status 0, an empty configuration among them."""
    text = """
routes:
  - id: 1
    plugins:
      ext-plugin-pre-req:
        conf:
          - {name: say, value: '{"times": 3}'}
          - {name: stop, value: not even JSON}
      ext-plugin-post-req: {}
#END
"""
    assert (0, ["3 plugins, 2 configurations: all is well"]) == check(plugins, "apisix.yaml", text)


def test_all_that_is_wrong(plugins: Path) -> None:
    """Each fault is named with its line, its route and its plugin: an unknown name, a wrong field, a phase without its hook, a form."""
    text = """
routes:
  - id: 1
    plugins:
      ext-plugin-pre-req:
        conf:
          - {name: sya, value: "{}"}
          - name: say
            value: '{"times": "many"}'
  - uri: /get
    plugins:
      ext-plugin-post-resp:
        conf:
          - {name: say, value: '{"times": 1}'}
          - {name: say, value: {times: 1}}
          - {name: "", value: ""}
global_rules:
  - id: 7
    plugins:
      ext-plugin-pre-req: [say]
"""
    status, lines = check(plugins, "apisix.yaml", text)

    assert (1, 7) == (status, len(lines))
    assert "apisix.yaml, line 7: route 1, ext-plugin-pre-req: plugin 1, sya: there is no plugin of this name; did you mean say?" == lines[0]
    assert lines[1].startswith("apisix.yaml, line 8: route 1, ext-plugin-pre-req: plugin 2, say: ")
    assert "times" in lines[1]
    assert "many" not in lines[1]  # values may be secrets
    assert lines[2].startswith("apisix.yaml, line 14: route /get, ext-plugin-post-resp: plugin 1, say: it has no on_response")
    assert lines[3].startswith("apisix.yaml, line 15: route /get, ext-plugin-post-resp: plugin 2: it must have a name and a value")
    assert lines[4].startswith("apisix.yaml, line 16: route /get, ext-plugin-post-resp: plugin 3: a name has 1 to 128 characters")
    assert lines[5].startswith("apisix.yaml, line 20: global_rule 7, ext-plugin-pre-req: this must be a mapping")
    assert "3 plugins, 3 configurations: 6 problems" == lines[6]


def test_one_of_each(plugins: Path) -> None:
    """One is no plural."""
    text = "routes: [{id: 1, plugins: {ext-plugin-pre-req: {conf: [{name: sya, value: x}]}}}]\n#END\n"

    assert "3 plugins, 1 configuration: 1 problem" == check(plugins, "apisix.yaml", text)[1][-1]


@pytest.mark.parametrize(
    "document",
    [
        {"uri": "/get", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "nope", "value": ""}]}}},
        [{"plugins": {"ext-plugin-pre-req": {"conf": [{"name": "nope", "value": ""}]}}}],
        {
            "list": [
                {
                    "key": "/apisix/routes/1",
                    "value": {"id": "1", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "nope", "value": ""}]}}},
                }
            ]
        },
    ],
)
def test_json(plugins: Path, document: object) -> None:
    """One route as it is put to the admin API, a list of them, and what the admin API answers, are understood."""
    status, lines = check(plugins, "routes.json", json.dumps(document))

    assert (1, True) == (status, "nope: there is no plugin of this name" in lines[0])
    assert lines[0].startswith("routes.json: route")


def test_for_tools(plugins: Path) -> None:
    """`--json` says the same in fields."""
    (plugins / "bad.py").write_text("import nowhere_to_be_found\n")
    result = invoke("check", "--json", "--plugins", plugins)
    report = json.loads(result.output)

    assert (1, False, 0) == (result.exit_code, report["ok"], report["configurations"])
    assert [str(plugins / "bad.py")] == [problem["file"] for problem in report["problems"]]


@pytest.mark.parametrize(("text", "reason"), [("a: [", "this is no YAML"), (None, "No such file or directory")])
def test_files_that_cannot_be_read(tmp_path: Path, text: str | None, reason: str) -> None:
    """A file that can't be read is status 2, so that a pipeline can tell it from a bad route."""
    file = tmp_path / "apisix.yaml"
    if text is not None:
        file.write_text(text)
    result = invoke("check", file)

    assert (2, True) == (result.exit_code, reason in result.output)


def test_wrong_setting(tmp_path: Path) -> None:
    """A wrong configuration file ends in the sentence that `start` gives."""
    (tmp_path / "config.yaml").write_text("logging: {level: loud}")
    result = invoke("check", "--config", tmp_path / "config.yaml")

    assert (2, True) == (result.exit_code, "logging.level is 'loud', but must be" in result.output)


def test_plugins(plugins: Path) -> None:
    """`plugins` shows name, generation, hooks, place and purpose, and what was refused; that is status 1, as with `check`."""
    assert 0 == invoke("plugins", "--plugins", plugins).exit_code
    (plugins / "bad.py").write_text("import nowhere_to_be_found\n")
    result = invoke("plugins", "--plugins", plugins)

    assert 1 == result.exit_code
    assert f"say  Plugin  on_request  {plugins}/say.py:12\n    Say it to the upstream.\n" in result.output
    assert f"refused: {plugins}/bad.py:1: " in result.output


def test_plugins_for_tools(plugins: Path) -> None:
    """`plugins --json` says the same in fields, and with its status."""
    report = json.loads(invoke("plugins", "--json", "--plugins", plugins).output)
    (plugins / "bad.py").write_text("import nowhere_to_be_found\n")

    assert 1 == invoke("plugins", "--json", "--plugins", plugins).exit_code
    assert ["rewrite", "say", "stop"] == [found["name"] for found in report["plugins"]]


def test_schema(plugins: Path) -> None:
    """`schema` shows what a configuration must look like."""
    result = invoke("schema", "say", "--plugins", plugins)

    assert 0 == result.exit_code
    assert "times" in json.dumps(json.loads(result.output))


def test_schema_of_what_is_not_there(plugins: Path) -> None:
    """An unknown name is answered with the one that was probably meant."""
    result = invoke("schema", "syay", "--plugins", plugins)

    assert (1, "Error: there is no plugin syay; did you mean say?\n") == (result.exit_code, result.output)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose libraries are not installed says what to install, and does not stop the others."""

    def import_module(name: str) -> None:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr("apisix.cli.commands.import_module", import_module)
    result = invoke("dev")

    assert (1, "Error: dev needs rich, which comes with the extra dev: pip install 'apisix-python-plugin-runner[dev]'\n") == (
        result.exit_code,
        result.output,
    )
    assert 0 == invoke("--help").exit_code


def test_what_may_not_be_meant_is_noted(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes go to standard error and change no status: plugins beside that are not loaded, a file that stands before a library."""
    monkeypatch.chdir(plugins.parent)
    assert "note: plugins/ of this directory is not loaded; --plugins plugins does that\n" == invoke("check").stderr

    (plugins / "click.py").write_text("")
    (plugins / "other.py").write_text("import click\n")
    result = invoke("check", "--plugins", "plugins")
    assert (0, 1) == (result.exit_code, result.stderr.count("note: "))
    assert f"note: {plugins}/other.py:1: this imports click, and gets the file of that name beside it" in result.stderr
