# SPDX-License-Identifier: Apache-2.0
"""The commands `check`, `plugins` and `schema`."""

import json
from pathlib import Path

import pytest

from tests.cli.checking import check, invoke


def test_no_problems(plugins: Path) -> None:
    """The status is 0 if the runner can run all configurations, even if one of them is empty."""
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
    assert check(plugins, "apisix.yaml", text) == (0, ["3 plugins, 2 configurations: no problems"])


def test_all_kinds_of_problems(plugins: Path) -> None:
    """Each problem has its line, its route and its plugin: an unknown name, a wrong field, a missing hook, a wrong form."""
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
#END
"""
    status, lines = check(plugins, "apisix.yaml", text)

    assert (status, len(lines)) == (1, 7)
    assert lines[0] == "apisix.yaml, line 7: route 1, ext-plugin-pre-req: plugin 1, sya: there is no plugin of this name; did you mean say?"
    assert lines[1].startswith("apisix.yaml, line 8: route 1, ext-plugin-pre-req: plugin 2, say: ")
    assert "times" in lines[1]
    assert "many" not in lines[1]  # values may be secrets
    assert lines[2].startswith("apisix.yaml, line 14: route /get, ext-plugin-post-resp: plugin 1, say: it has no on_response")
    assert lines[3].startswith(
        "apisix.yaml, line 15: route /get, ext-plugin-post-resp: plugin 2: its value must be a string, not a mapping"
    )
    assert lines[4].startswith("apisix.yaml, line 16: route /get, ext-plugin-post-resp: plugin 3: a name must have 1 to 128 characters")
    assert lines[5].startswith("apisix.yaml, line 20: global_rule 7, ext-plugin-pre-req: this must be a mapping")
    assert lines[6] == "3 plugins, 3 configurations: 6 problems"


def test_failing_config_method(plugins: Path) -> None:
    """A plugin of release 0.2 is configured for each call. `check` configures it without a call, and does not print the value."""
    (plugins / "old.py").write_text(
        "from apisix.runner.plugin.core import PluginBase\n\n\n"
        "class Old(PluginBase):\n"
        "    def name(self):\n        return 'old'\n\n"
        "    def config(self, conf):\n        raise ValueError(f'no key {conf}')\n\n"
        "    def filter(self, conf, request, response):\n        pass\n"
    )
    route = "routes:\n  - plugins:\n      ext-plugin-pre-req: {conf: [{name: old, value: s3cret}]}\n#END\n"
    status, lines = check(plugins, "apisix.yaml", route)
    assert (status, len(lines)) == (1, 2)
    assert "plugin 1, old: it can't be configured: ValueError: no key ... (plugins/old.py:9)" in lines[0]


def test_singular(plugins: Path) -> None:
    """One problem is printed in the singular."""
    text = "routes: [{id: 1, plugins: {ext-plugin-pre-req: {conf: [{name: sya, value: x}]}}}]\n#END\n"

    assert check(plugins, "apisix.yaml", text)[1][-1] == "3 plugins, 1 configuration: 1 problem"


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
    """A route as it is sent to the admin API, a list of routes, and a response of the admin API are read."""
    status, lines = check(plugins, "routes.json", json.dumps(document))

    assert (status, "nope: there is no plugin of this name" in lines[0]) == (1, True)
    assert lines[0].startswith("routes.json: route")


def test_json_output(plugins: Path) -> None:
    """`--json` prints the same as fields."""
    (plugins / "bad.py").write_text("import nowhere_to_be_found\n")
    result = invoke("check", "--json", "--plugins", plugins)
    report = json.loads(result.output)

    assert (result.exit_code, report["ok"], report["configurations"]) == (1, False, 0)
    assert [problem["file"] for problem in report["problems"]] == [str(plugins / "bad.py")]


@pytest.mark.parametrize(("text", "reason"), [("a: [", "this is not YAML"), (None, "No such file or directory")])
def test_files_that_cannot_be_read(tmp_path: Path, text: str | None, reason: str) -> None:
    """If a file can't be read, the status is 2, so that a pipeline can distinguish it from a problem in a route."""
    file = tmp_path / "apisix.yaml"
    if text is not None:
        file.write_text(text)
    result = invoke("check", file)

    assert (result.exit_code, reason in result.output) == (2, True)


def test_wrong_setting(tmp_path: Path) -> None:
    """If the configuration file is wrong, the message is the same as that of `start`."""
    (tmp_path / "config.yaml").write_text("logging: {level: loud}")
    result = invoke("check", "--config", tmp_path / "config.yaml")

    assert (result.exit_code, "logging.level is 'loud', but must be" in result.output) == (2, True)


def test_plugins(plugins: Path) -> None:
    """`plugins` shows the name, the API, the hooks, the source and the purpose. If there are problems, the status is 1, as in `check`."""
    assert invoke("plugins", "--plugins", plugins).exit_code == 0
    (plugins / "bad.py").write_text("import nowhere_to_be_found\n")
    result = invoke("plugins", "--plugins", plugins)

    assert result.exit_code == 1
    assert (
        f"say  Plugin  on_request  {plugins}/say.py:12\n    Add a header to the request of the upstream.\n    on_request runs inline: yes\n"
        in result.output
    )
    assert f"refused: {plugins}/bad.py:1: " in result.output


def test_plugins_as_json(plugins: Path) -> None:
    """`plugins --json` prints the same as fields, with the same status."""
    report = json.loads(invoke("plugins", "--json", "--plugins", plugins).output)
    (plugins / "bad.py").write_text("import nowhere_to_be_found\n")

    assert invoke("plugins", "--json", "--plugins", plugins).exit_code == 1
    assert [found["name"] for found in report["plugins"]] == ["rewrite", "say", "stop"]
    assert report["plugins"][1]["runs_inline"] == {"on_request": {"inline": True, "reason": None}}


WAYS_TO_RUN = {
    "reads a body": (
        "    def on_request(self, request):\n        request.read()\n",
        "no, because request.read() may wait for the gateway (way.py:4)",
    ),
    "declared inline": ("    inline = True\n    def on_request(self, request): request.read()\n", "yes"),
    "declared not inline": ("    inline = False\n    def on_request(self, request): ...\n", "no, because inline is False"),
    "coroutine": ("    async def on_request(self, request): ...\n", "no, because it is a coroutine function, which runs as a task"),
    "needs": (
        "    needs = ('body',)\n    def on_request(self, request): ...\n",
        "no, because needs is ('body',), so each call first waits for the gateway",
    ),
    "blocking": (
        "    blocking = True\n    def on_request(self, request): ...\n",
        "no, because blocking is True, so it runs in a thread",
    ),
    "setup": (
        "    async def setup(self): ...\n    def on_request(self, request): ...\n",
        "no, because the plugin has a setup(), for which its first call waits",
    ),
    "on_error": (
        "    on_error = 'pass'\n    def on_request(self, request): ...\n",
        "no, because on_error is 'pass', so the call must be able to continue without its edits",
    ),
}


@pytest.mark.parametrize(("body", "expected"), WAYS_TO_RUN.values(), ids=WAYS_TO_RUN)
def test_why_a_hook_does_not_run_inline(tmp_path: Path, body: str, expected: str) -> None:
    """The reason contains the use that may suspend the call, with its line, or the attribute of the class."""
    (tmp_path / "way.py").write_text(f"from apisix import Plugin\nclass Way(Plugin):\n{body}")
    output = invoke("plugins", "--plugins", tmp_path).output
    assert f"    on_request runs inline: {expected}\n" in output


def test_schema(plugins: Path) -> None:
    """`schema` prints the JSON Schema of a configuration."""
    result = invoke("schema", "say", "--plugins", plugins)

    assert result.exit_code == 0
    assert "times" in json.dumps(json.loads(result.output))


def test_schema_of_an_unknown_plugin(plugins: Path) -> None:
    """For an unknown name, the message contains the most similar one."""
    result = invoke("schema", "syay", "--plugins", plugins)

    assert (result.exit_code, result.output) == (1, "Error: there is no plugin syay; did you mean say?\n")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the libraries of a command are not installed, the message says what to install, and the other commands work."""

    def import_module(name: str) -> None:
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr("apisix.cli.commands.import_module", import_module)
    result = invoke("dev")

    assert (
        result.exit_code,
        result.output,
    ) == (1, "Error: dev needs rich, which comes with the extra dev: pip install 'apisix-python-plugin-runner[dev]'\n")
    assert invoke("--help").exit_code == 0


def test_notes(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes are printed on standard error, and the status stays 0, for example if a file hides a library."""
    monkeypatch.chdir(plugins.parent)

    (plugins / "click.py").write_text("")
    (plugins / "other.py").write_text("import click\n")
    result = invoke("check", "--plugins", "plugins")
    assert (result.exit_code, result.stderr.count("note: ")) == (0, 1)
    assert f"note: {plugins}/other.py:1: this imports click from the file of that name in the plugin directory" in result.stderr


ROUTE = """routes:
  - id: 1
    plugins:
      ext-plugin-pre-req:
        conf: [{name: say, value: '{"times": 1}'}]
#END
"""


def test_default_paths(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, plugins/ and apisix.yaml in the current directory are checked, as in `dev`, and notes report it."""
    monkeypatch.chdir(plugins.parent)
    nothing = invoke("check")
    assert (nothing.exit_code, nothing.stdout) == (0, "3 plugins: no problems; no configuration was checked\n")

    (plugins.parent / "apisix.yaml").write_text(ROUTE.replace("times", "tmies"))
    result = invoke("check")

    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "3 plugins, 1 configuration: 1 problem")
    assert result.stdout.startswith("apisix.yaml, line 5: route 1, ext-plugin-pre-req: plugin 1, say: ")
    assert result.stderr.splitlines() == [
        "note: plugins/ in the current directory is loaded; start loads it only with --plugins plugins",
        "note: no file was given, so apisix.yaml in the current directory is checked",
    ]


def test_default_file_without_configurations(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is not a problem, but a note reports that nothing was checked."""
    monkeypatch.chdir(plugins.parent)
    (plugins.parent / "apisix.yaml").write_text("routes: [{id: 1, uri: /get}]\n#END\n")
    result = invoke("check")

    assert (result.exit_code, result.stdout) == (0, "3 plugins: no problems; no configuration was checked\n")
    assert "apisix.yaml: there is no ext-plugin configuration in this file, so nothing in it was checked" in result.stderr


@pytest.mark.parametrize(("name", "text"), [("r.json", "{}"), ("r.yaml", ""), ("apisix.yaml", "routes: [{id: 1, uri: /get}]\n#END\n")])
def test_named_file_without_configurations(plugins: Path, name: str, text: str) -> None:
    """If a named file contains no configuration, this is a problem."""
    expected = [f"{name}: there is no ext-plugin configuration in this file, so nothing in it was checked"]
    assert check(plugins, name, text) == (1, [*expected, "3 plugins: 1 problem; no configuration was checked"])


@pytest.mark.parametrize("command", [("plugins",), ("schema", "say")])
def test_default_plugins(plugins: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    """Without --plugins, `plugins` and `schema` load plugins/ in the current directory, as `check` and `dev` do, and a note reports it."""
    monkeypatch.chdir(plugins.parent)
    result = invoke(*command)

    assert (result.exit_code, "say.py" in result.stdout or "SayConfig" in result.stdout) == (0, True)
    assert result.stderr == "note: plugins/ in the current directory is loaded; start loads it only with --plugins plugins\n"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{name: say}", "it has no value, but must have a name and a value"),
        ('{value: ""}', "it has no name, but must have a name and a value"),
        ("{name: say, value: {times: 1}}", "its value must be a string, not a mapping; write the JSON of the configuration in quotes"),
        ("{name: say, value: }", "its value must be a string, not null; write the JSON of the configuration in quotes"),
        ("{name: 1, value: x}", "its name must be a string, not a number"),
        ("{name: yes, value: x}", "its name must be a string, not a boolean"),
        ("say", "this must be a mapping with a name and a value, not a string"),
        ("[say]", "this must be a mapping with a name and a value, not a list"),
        ("2024-01-01", "this must be a mapping with a name and a value, not a date"),
    ],
)
def test_form_of_an_entry(plugins: Path, entry: str, expected: str) -> None:
    """The message names the part of an entry that is wrong, and its type."""
    text = f"routes:\n  - id: 1\n    plugins:\n      ext-plugin-pre-req:\n        conf:\n          - {entry}\n#END\n"
    status, lines = check(plugins, "apisix.yaml", text)

    assert (status, [line.partition("plugin 1: ")[2] for line in lines[:-1]]) == (1, [expected])


def test_route_with_a_plugin_that_could_not_be_loaded(plugins: Path) -> None:
    """The reason is printed once, with the problems of the plugins. The problems of routes refer to it."""
    (plugins / "say.py").write_text("import nothing_of_this_name\n")
    entry = '{name: say, value: ""}'
    text = f"routes:\n  - id: 1\n    plugins:\n      ext-plugin-pre-req:\n        conf:\n          - {entry}\n          - {entry}\n#END\n"
    _, lines = check(plugins, "apisix.yaml", text)

    assert lines[1:] == [
        "apisix.yaml, line 6: route 1, ext-plugin-pre-req: plugin 1, say: the plugin could not be loaded; see plugins/say.py:1",
        "apisix.yaml, line 7: route 1, ext-plugin-pre-req: plugin 2, say: the plugin could not be loaded; see plugins/say.py:1",
        "2 plugins, 1 configuration: 3 problems",
    ]


def test_order_of_problems(plugins: Path) -> None:
    """The problems of a file are printed in the order of their lines, even if they are of different kinds."""
    text = """
routes:
  - id: 1
    plugins:
      ext-plugin-pre-req:
        conf: [{name: nope, value: ""}]
      ext-plugin-pre-reqs: {}
  - id: 2
    plugins:
      ext-plugin-pre-req:
        conf: [{name: nope, value: ""}]
"""
    _, lines = check(plugins, "apisix.yaml", text)

    assert [line.partition(": ")[0] for line in lines[:-1]] == ["apisix.yaml", *(f"apisix.yaml, line {line}" for line in (6, 7, 11))]


@pytest.mark.parametrize(("given", "expected"), [("doctr", " Did you mean 'doctor'?"), ("xyz", "")])
def test_unknown_command(given: str, expected: str) -> None:
    """The message contains the most similar command."""
    result = invoke(given)

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: No such command '{given}'.{expected}")


def test_gateway_config_that_does_not_exist(tmp_path: Path) -> None:
    """A wrong path is an error, so that the release of the gateway is not ignored."""
    result = invoke("check", "--gateway-config", tmp_path / "config.yaml")

    assert (result.exit_code, f"there is no file {tmp_path}/config.yaml" in result.stderr) == (2, True)


def test_gateway_config_without_a_gateway(plugins: Path) -> None:
    """If APISIX is not installed next to its configuration, a note names the routes whose plugins depend on the release."""
    (plugins / "hide.py").write_text("from apisix import Plugin\n\n\nclass Hide(Plugin):\n    def on_response(self, response): ...\n")
    config, routes = plugins.parent / "config.yaml", plugins.parent / "r.json"
    config.touch()
    routes.write_text(json.dumps({"id": "1", "plugins": {"ext-plugin-post-resp": {"conf": [{"name": "hide", "value": ""}]}}}))
    result = invoke("check", "--plugins", plugins, "--gateway-config", config, routes)

    assert result.exit_code == 0
    assert result.stderr.startswith(f"note: route 1: APISIX was not found next to {config}")


def test_schema_of_an_unknown_plugin_without_a_similar_name(plugins: Path) -> None:
    """The message contains the names of all plugins."""
    result = invoke("schema", "--plugins", plugins, "zzz")

    assert (result.exit_code, result.output) == (1, "Error: there is no plugin zzz; the plugins are rewrite, say, stop\n")


@pytest.mark.parametrize("name", ["apisix.yaml", "other.yaml"])
def test_missing_end(plugins: Path, name: str) -> None:
    """APISIX ignores a stand-alone file without its last line."""
    status, lines = check(plugins, name, ROUTE.replace("#END", ""))
    assert (status, lines[:-1]) == (
        1,
        [f"{name}: the file does not end with the line #END, so APISIX ignores the whole file; add this line"],
    )


def test_end_is_not_needed_in_other_files(plugins: Path) -> None:
    """A route in YAML or JSON is sent to the admin API, and does not need such a line."""
    route = "id: 1\nplugins:\n  ext-plugin-pre-req:\n    conf: [{name: stop, value: ''}]\n"
    assert check(plugins, "route.yaml", route)[0] == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{config: []}", "APISIX ignores the key config; did you mean conf?"),
        ("{allow_degradation: 1}", "allow_degradation must be true or false"),
        ("{conf: []}", "conf is empty, which APISIX refuses; remove it if no plugin should run"),
        ("{other: 1}", "APISIX ignores the key other; the keys are conf, allow_degradation, _meta"),
        ("{conf: [{name: stop, value: a}], conf: [{name: stop, value: b}]}", "the key conf is here twice, and only the last one counts"),
        ("{conf: [{name: stop, value: a, vaule: b}]}", "plugin 1: APISIX ignores the key vaule; did you mean value?"),
    ],
)
def test_keys_of_a_configuration(plugins: Path, text: str, expected: str) -> None:
    """A key that APISIX ignores is a problem, because it may be a protection that has no effect."""
    route = f"routes:\n  - id: 1\n    plugins:\n      ext-plugin-pre-req: {text}\n#END\n"
    status, lines = check(plugins, "apisix.yaml", route)
    assert (status, lines[:-1]) == (1, [f"apisix.yaml, line 4: route 1, ext-plugin-pre-req: {expected}"])


@pytest.mark.parametrize(
    ("route", "line", "expected"),
    [
        (
            "ext-plugin-pre-req: {conf: [{name: stop, value: ''}]}",
            3,
            "route 1, ext-plugin-pre-req: this is not inside plugins, so APISIX does not run it; move it there",
        ),
        (
            "plugin:\n      ext-plugin-pre-req: {conf: []}",
            4,
            "plugin, ext-plugin-pre-req: this is not inside plugins, so APISIX does not run it; move it there",
        ),
        (
            "upstream:\n      plugins:\n        ext-plugin-pre-req: {}",
            5,
            "upstream, ext-plugin-pre-req: APISIX runs no ext-plugin in upstream; name it in a route, service, plugin_config,",
        ),
        (
            "plugins: {ext-plugin-prereq: {}}",
            3,
            "route 1, ext-plugin-prereq: APISIX has no plugin of this name; did you mean ext-plugin-pre-req?",
        ),
        (
            "plugins: {say: {times: 1}}",
            3,
            "route 1, say: this is a plugin of the runner, which APISIX does not accept here; name it in the conf of an ext-plugin",
        ),
        ("plugins: [{ext-plugin-pre-req: {}}]", 3, "route 1: plugins is a list here and was not checked; in APISIX it is a mapping"),
        ("plugins: {proxy-rewrite: {ext-plugin-post-req: {}}}", 3, "route, ext-plugin-post-req: this is not inside plugins"),
        ("uri: /a\n    plugins: {}\n    plugins: {}", 5, "route 1: the key plugins is here twice, and only the last one counts"),
    ],
)
def test_wrong_places(plugins: Path, route: str, line: int, expected: str) -> None:
    """A configuration that APISIX would not run is found in any place."""
    status, lines = check(plugins, "apisix.yaml", f"routes:\n  - id: 1\n    {route}\n#END\n")
    assert status == 1
    assert lines[0].startswith(f"apisix.yaml, line {line}: {expected}")
    assert len(lines) == 2


def test_phase_that_occurs_twice(plugins: Path) -> None:
    """If a phase occurs twice, YAML keeps only the last one."""
    text = ROUTE.replace("#END", "      ext-plugin-pre-req: {}\n#END")
    status, lines = check(plugins, "apisix.yaml", text)
    assert (
        status,
        lines[0],
    ) == (1, "apisix.yaml, line 6: route 1, ext-plugin-pre-req: this plugin is here twice, and only the last one counts")


def test_the_list_of_plugins_of_a_gateway(plugins: Path) -> None:
    """A stand-alone file may list the plugins that the gateway loads."""
    assert check(plugins, "apisix.yaml", f"plugins: [{{name: ext-plugin-pre-req}}]\n{ROUTE}")[0] == 0


def test_every_resource_is_checked(plugins: Path) -> None:
    """The configurations of plugin configs, services, consumers and global rules are checked, and the problems name the objects."""
    text = """
routes: [{id: 1, uri: /a, plugin_config_id: pc, service_id: sv}]
plugin_configs: [{id: pc, plugins: {ext-plugin-pre-req: {conf: [{name: nope, value: ""}]}}}]
services: [{id: sv, plugins: {ext-plugin-post-req: {conf: [{name: nope, value: ""}]}}}]
consumers: [{username: jack, plugins: {ext-plugin-post-req: {conf: [{name: nope, value: ""}]}}}]
global_rules: [{id: 1, plugins: {ext-plugin-pre-req: {conf: [{name: nope, value: ""}]}}}]
#END
"""
    status, lines = check(plugins, "apisix.yaml", text)
    holders = ["plugin_config pc", "service sv", "consumer jack", "global_rule 1"]
    assert [line.split(": ")[1].partition(",")[0] for line in lines[:-1]] == holders
    assert (status, lines[-1]) == (1, "3 plugins, 4 configurations: 4 problems")


def test_missing_references(plugins: Path) -> None:
    """Notes name a plugin config or service that is in none of the files, and a chain that replaces another one."""
    route = {"id": "1", "uri": "/", "plugin_config_id": "pc", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "stop", "value": ""}]}}}
    file = plugins.parent / "route.json"
    file.write_text(json.dumps(route))
    result = invoke("check", "--plugins", plugins, file)
    assert result.stderr == "note: route 1 uses plugin_config pc, which is in none of the files: plugins that it adds were not checked\n"

    other = plugins.parent / "pc.json"
    other.write_text(json.dumps({"plugin_configs": [{"id": "pc", "plugins": {"ext-plugin-pre-req": {}}}]}))
    result = invoke("check", "--json", "--plugins", plugins, file, other)
    report = json.loads(result.stdout)
    assert report["notes"] == ["route 1 and its plugin_config pc both have ext-plugin-pre-req: APISIX runs only that of route 1"]


SHARES = """
from apisix import Plugin, Request


class Remembers(Plugin):
    shared_state = ("hits",)

    def __init__(self) -> None:
        self.hits = 0
        self.user = None

    async def setup(self) -> None:
        self.client = object()

    def on_request(self, request: Request) -> None:
        self.hits += 1
        name = self._name(request)
        for self.user in [name]:
            pass

    def _name(self, request: Request) -> str:
        self.last, other = request.path, 1
        return ""

    def _unused(self) -> None:
        self.never = 1
"""


def test_shared_state(plugins: Path) -> None:
    """Assignments to attributes of self in a hook, or in a method that it uses, are reported, unless the attribute is in shared_state."""
    (plugins / "remembers.py").write_text(SHARES)
    result = invoke("check", "--plugins", plugins)

    assert result.exit_code == 0
    notes = [line.partition(". All calls")[0] for line in result.stderr.splitlines()]
    assert notes == [
        f"note: {plugins}/remembers.py:18: Remembers.on_request assigns self.user",
        f"note: {plugins}/remembers.py:22: Remembers._name assigns self.last",
    ]


@pytest.mark.parametrize(("version", "warns"), [("2.15.3", True), ("3.0.0", False)])
def test_an_old_gateway(plugins: Path, version: str, warns: bool) -> None:
    """Before 3.0, a plugin can't read a response. If such a gateway is on this machine, a note names the routes that may try it."""
    config = plugins.parent / "gateway" / "conf" / "config.yaml"
    lua = plugins.parent / "gateway" / "apisix" / "core" / "version.lua"
    lua.parent.mkdir(parents=True)
    config.parent.mkdir()
    config.touch()
    lua.write_text(f'return {{\n    VERSION = "{version}"\n}}\n')
    (plugins / "hide.py").write_text("from apisix import Plugin\n\n\nclass Hide(Plugin):\n    def on_response(self, response): ...\n")
    route = {"id": "1", "plugins": {"ext-plugin-post-resp": {"conf": [{"name": "hide", "value": ""}]}}}
    (plugins.parent / "r.json").write_text(json.dumps(route))
    result = invoke("check", "--plugins", plugins, "--gateway-config", config, plugins.parent / "r.json")

    assert result.exit_code == 0
    assert (f"note: route 1: APISIX {version} ({lua}) does not support info requests in ext-plugin-post-resp" in result.stderr) == warns


def test_missing_directory(tmp_path: Path) -> None:
    """The problem has no line, and contains the path as it was given."""
    result = invoke("check", "--plugins", tmp_path / "nope")
    assert result.exit_code == 1
    assert f"{tmp_path / 'nope'}: the directory of plugins can't be read: No such file or directory" in result.output
    assert "nope:1:" not in result.output
    (problem,) = json.loads(invoke("check", "--json", "--plugins", tmp_path / "nope").stdout)["problems"]
    assert (problem["file"], problem["line"]) == (str(tmp_path / "nope"), 0)


def test_class_without_a_base(plugins: Path) -> None:
    """`check` and `plugins` both report it, with the line of code to write."""
    (plugins / "guard.py").write_text("class Guard:\n    def on_request(self, request): ...\n")
    for command in ("check", "plugins"):
        result = invoke(command, "--plugins", plugins)
        assert result.exit_code == 1
        assert f"{plugins / 'guard.py'}:1: Guard looks like a plugin" in result.output
        assert "write class Guard(Plugin), with from apisix import Plugin" in result.output
