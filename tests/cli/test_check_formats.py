# SPDX-License-Identifier: Apache-2.0
"""`check` reads files for adc, manifests, dumps of the admin API, and directories."""

import json
from pathlib import Path

import pytest

from tests.cli.checking import check, invoke

ADC = """\
services:
  - name: httpbin
    labels: {team: web}
    upstream:
      type: roundrobin
      nodes: [{host: httpbin.org, port: 80, weight: 100}]
    plugins:
      ext-plugin-post-req:
        conf: [{name: sya, value: "{}"}]
    routes:
      - name: get-ip
        uris: [/ip]
        methods: [GET]
        plugins:
          proxy-rewrite: {uri: /get}
          ext-plugin-pre-req:
            conf:
              - name: say
                value: '{"times": "many"}'
      - name: anything
        uris: [/anything/*]
        plugins:
          ext-plugin-pre-req:
            conf: [{name: say, value: '{"times": 1}'}]
          ext-plugin-post-req: {}
consumers:
  - username: partner
    credentials:
      - {name: primary, type: key-auth, config: {key: "${API_KEY}"}}
    plugins:
      ext-plugin-pre-req:
        conf: [{name: nope, value: ""}]
global_rules:
  prometheus: {prefer_name: false}
  ext-plugin-post-resp:
    conf: [{name: say, value: '{"times": 1}'}]
plugin_metadata:
  ext-plugin-pre-req: {}
"""


def test_adc(plugins: Path) -> None:
    """Services with nested routes, consumers and global rules of a file for adc are checked. It does not need #END."""
    status, lines = check(plugins, "adc.yaml", ADC)

    assert status == 1
    assert lines.pop(0) == "note: route anything and its service httpbin both have ext-plugin-post-req: APISIX runs only that of the route"
    assert lines[5] == "3 plugins, 6 configurations: 5 problems"
    assert (
        lines[0]
        == "adc.yaml, line 9: service httpbin, ext-plugin-post-req: plugin 1, sya: there is no plugin of this name; did you mean say?"
    )
    assert lines[1].startswith("adc.yaml, line 18: service httpbin, route get-ip, ext-plugin-pre-req: plugin 1, say: ")
    assert lines[2].startswith("adc.yaml, line 32: consumer partner, ext-plugin-pre-req: plugin 1, nope: there is no plugin of this name")
    assert lines[3].startswith("adc.yaml, line 36: global_rule, ext-plugin-post-resp: plugin 1, say: it has no on_response")
    assert (
        lines[4]
        == "adc.yaml, line 38: plugin_metadata, ext-plugin-pre-req: this is not inside plugins, so APISIX does not run it; move it there"
    )


def test_variables_of_adc(plugins: Path) -> None:
    """A value with ${NAME} can't be validated before adc replaces it, and a note reports this. With \\${NAME}, the value is validated."""

    def file(name: str, value: str) -> str:
        conf = json.dumps([{"name": name, "value": value}])
        return f"services:\n  - name: a\n    plugins:\n      ext-plugin-pre-req: {{conf: {conf}}}\n"

    where = "note: service a, ext-plugin-pre-req: plugin 1, say (line 4)"
    note = f"{where}: the value contains ${{TIMES}}, which is replaced later, so it was not checked"
    assert check(plugins, "adc.yaml", file("say", '{"times": ${TIMES}}')) == (0, [note, "3 plugins, 1 configuration: no problems"])
    assert check(plugins, "adc.yaml", file("say", '{"times": \\${TIMES}}'))[0] == 1
    assert check(plugins, "adc.yaml", file("nope", "${TIMES}"))[0] == 1
    assert check(plugins, "apisix.yaml", file("say", '{"times": ${TIMES}}') + "#END\n")[0] == 1
    assert check(plugins, "apisix.yaml", file("say", '{"times": ${{TIMES:=1}}}') + "#END\n")[0] == 0


MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
---
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata:
  name: web
  namespace: shop
spec:
  ingressClassName: apisix
  http:
    - name: api
      match: {hosts: [shop.example.com], paths: [/api/*]}
      backends: [{serviceName: web, servicePort: 80}]
      plugin_config_name: shared
      plugins:
        - name: ext-plugin-pre-req
          enable: true
          config:
            allow_degradation: false
            conf:
              - name: say
                value: '{"times": "many"}'
        - name: limit-count
          enable: true
          config: {count: 2, time_window: 10}
    - name: rest
      match: {paths: [/*]}
      plugin_config_name: missing
      plugins:
        - name: ext-plugin-post-req
          enable: false
          config: {conf: [{name: sya, value: ""}]}
  stream:
    - name: tcp
      plugins:
        - name: ext-plugin-pre-req
          config: {}
---
apiVersion: apisix.apache.org/v2
kind: ApisixPluginConfig
metadata: {name: shared, namespace: shop}
spec:
  plugins:
    - name: ext-plugin-pre-req
      conf: {conf: []}
    - name: say
      config: {times: 1}
    - name: ext-plugin-post-req
      secretRef: tokens
---
apiVersion: apisix.apache.org/v2
kind: ApisixGlobalRule
metadata: {name: all}
spec:
  plugins:
    - {name: ext-plugin-post-resp, config: {conf: [{name: say, value: '{"times": 1}'}]}}
---
apiVersion: apisix.apache.org/v2
kind: ApisixConsumer
metadata: {name: jack}
spec:
  authParameter: {keyAuth: {value: {key: jack-key}}}
  plugins:
    - {name: ext-plugin-pre-req, config: {conf: say}}
---
apiVersion: apisix.apache.org/v1alpha1
kind: PluginConfig
metadata: {name: gw}
spec:
  plugins:
    - name: ext-plugin-pre-req
      config: {conf: [{name: nope, value: ""}]}
---
apiVersion: apisix.apache.org/v1alpha1
kind: GatewayProxy
metadata: {name: proxy}
spec:
  plugins:
    - name: ext-plugin-pre-req
      config: {}
---
apiVersion: apisix.apache.org/v9
kind: ApisixNovelty
metadata: {name: new}
spec: {plugins: [{name: ext-plugin-pre-req}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: standalone}
data:
  apisix.yaml: "routes: [{plugins: {ext-plugin-pre-req: {}}}]"
"""


def test_manifests(plugins: Path) -> None:
    """Each list of plugins in the manifests of the ingress controller is checked. Problems have the line of the entry."""
    (plugins.parent / "manifests.yaml").write_text(MANIFESTS)
    result = invoke("check", "--json", "--plugins", plugins, plugins.parent / "manifests.yaml")
    report = json.loads(result.stdout)
    expected = [
        (23, "ApisixRoute shop/web, rule api", "ext-plugin-pre-req", "plugin 1, say: "),
        (34, "ApisixRoute shop/web, rule rest", "ext-plugin-post-req", "plugin 1, sya: there is no plugin of this name; did you mean say?"),
        (39, "ApisixRoute shop/web, rule tcp", "ext-plugin-pre-req", "APISIX runs no ext-plugin in stream_routes; name it in a route,"),
        (47, "ApisixPluginConfig shop/shared", "ext-plugin-pre-req", "Kubernetes drops the key conf; did you mean config?"),
        (49, "ApisixPluginConfig shop/shared", "say", "this is a plugin of the runner, which APISIX does not accept here; name it in"),
        (58, "ApisixGlobalRule all", "ext-plugin-post-resp", "plugin 1, say: it has no on_response"),
        (66, "ApisixConsumer jack", "ext-plugin-pre-req", "this must be a mapping in which conf is a list of plugins"),
        (74, "PluginConfig gw", "ext-plugin-pre-req", "plugin 1, nope: there is no plugin of this name"),
    ]
    assert result.exit_code == 1
    found = [(each["line"], each["holder"], each["phase"], each["reason"]) for each in report["findings"]]
    assert [(*rest, reason[: len(row[3])]) for (*rest, reason), row in zip(found, expected, strict=True)] == expected
    file = f"{plugins.parent}/manifests.yaml"
    assert report["notes"] == [
        f"{file}: Service shop/web (line 1) was not checked: check does not read a Service",
        f"{file}: ApisixNovelty new (line 84) was not checked: check does not support the kind ApisixNovelty of apisix.apache.org/v9, "
        "but it mentions ext-plugin-pre-req",
        f"{file}: ConfigMap standalone (line 89) was not checked: check does not read a ConfigMap, but it mentions ext-plugin-pre-req",
        "ApisixRoute shop/web, rule rest: ext-plugin-post-req is not enabled, so APISIX does not run it",
        "ApisixPluginConfig shop/shared: ext-plugin-post-req takes values from the secret tokens, which were not checked",
        "GatewayProxy proxy: ext-plugin-pre-req is not enabled, so APISIX does not run it",
        "ApisixRoute shop/web, rule api and its ApisixPluginConfig shop/shared both have ext-plugin-pre-req: "
        "APISIX runs only that of ApisixRoute shop/web, rule api",
        "ApisixRoute shop/web, rule rest uses ApisixPluginConfig shop/missing, which is in none of the files: "
        "plugins that it adds were not checked",
    ]


MIXED = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
---
apiVersion: apisix.apache.org/v2
kind: ApisixGlobalRule
metadata: {name: all}
spec:
  plugins: [{name: ext-plugin-pre-req, config: {conf: [{name: say, value: '{"times": 1}'}]}}]
---
apiVersion: apisix.apache.org/v9
kind: ApisixNovelty
metadata: {name: new}
---
- apiVersion: v1
  kind: Secret
  metadata: {name: token}
---
version: "3"
networks: {}
---
just text
"""


def test_skipped_documents(plugins: Path) -> None:
    """Each document of a kind that is not read is named with the reason, in a file in which other documents are checked."""
    skipped = [
        (1, "Service shop/web", "check does not read a Service"),
        (11, "ApisixNovelty new", "check does not support the kind ApisixNovelty of apisix.apache.org/v9"),
        (15, "Secret token", "check does not read a Secret"),
        (19, "", "it is neither a manifest nor an object of APISIX, because it has only the keys version, networks"),
        (0, "", "it is a string, but a mapping or a list was expected"),
    ]
    status, lines = check(plugins, "mixed.yaml", MIXED)
    assert (status, lines) == (
        0,
        [
            "note: mixed.yaml: Service shop/web (line 1) was not checked: check does not read a Service",
            "note: mixed.yaml: ApisixNovelty new (line 11) was not checked: "
            "check does not support the kind ApisixNovelty of apisix.apache.org/v9",
            "note: mixed.yaml: Secret token (line 15) was not checked: check does not read a Secret",
            f"note: mixed.yaml: the document in line 19 was not checked: {skipped[3][2]}",
            f"note: mixed.yaml: one document was not checked: {skipped[4][2]}",
            "3 plugins, 1 configuration: no problems",
        ],
    )

    file = str(plugins.parent / "mixed.yaml")
    report = json.loads(invoke("check", "--json", "--plugins", plugins, file).stdout)
    assert report["skipped"] == [
        {"file": file, "line": line, "name": name, "reason": reason, "phase": ""} for line, name, reason in skipped
    ]


def test_skipped_documents_of_a_directory(plugins: Path) -> None:
    """Files of a directory that contain nothing for the runner are only counted, so that they don't hide the other notes."""
    directory = plugins.parent / "deploy"
    directory.mkdir()
    (directory / "mixed.yaml").write_text(MIXED)
    (directory / "web.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
    report = json.loads(invoke("check", "--json", "--plugins", plugins, directory).stdout)

    assert [each["name"] for each in report["skipped"]] == [
        "Service shop/web",
        "ApisixNovelty new",
        "Secret token",
        "",
        "",
        "Deployment web",
    ]
    assert [note for note in report["notes"] if "Deployment" in note or "files" in note] == [
        f"{directory}: 1 of 2 files contain no ext-plugin configuration"
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"routes": []},
        {"uri": "/a"},
        {"list": [], "total": 0},
        {"node": {}, "action": "get"},
        {"username": "jack"},
        [{"uri": "/a"}],
        {"nodes": {"a:80": 1}},
        {"stream_routes": []},
        {"upstreams": []},
    ],
)
def test_documents_of_apisix_are_not_skipped(plugins: Path, document: object) -> None:
    """An object of APISIX without plugins is of a known kind."""
    path = plugins.parent / "a.json"
    path.write_text(json.dumps(document))
    assert json.loads(invoke("check", "--json", "--plugins", plugins, path).stdout)["skipped"] == []


def test_health_checks(plugins: Path) -> None:
    """A note reports that health checks, which are valid, have no effect in `dev`."""
    upstream = "{nodes: {'a:80': 1}, checks: {active: {http_path: /}}}"
    text = f"""\
routes:
  - id: 1
    uri: /
    upstream: {upstream}
    plugins: {{ext-plugin-pre-req: {{conf: [{{name: say, value: '{{"times": 1}}'}}]}}}}
upstreams:
  - id: 2
    nodes: {{'a:80': 1}}
    checks: {{active: {{http_path: /}}}}
#END
"""
    note = "the health checks of the upstream (checks) have no effect in the development gateway: it sends requests to all nodes"
    assert check(plugins, "apisix.yaml", text) == (
        0,
        [
            f"note: apisix.yaml, line 4: upstream: {note}",
            f"note: apisix.yaml, line 9: upstream 2: {note}",
            "3 plugins, 1 configuration: no problems",
        ],
    )


def test_items_without_a_kind(plugins: Path) -> None:
    """The items of a list that the API of Kubernetes returns are of the kind of the list."""
    plugin = {"name": "ext-plugin-pre-req", "config": {"conf": [{"name": "nope", "value": ""}]}}
    items = [{"metadata": {"name": "all"}, "spec": {"plugins": [plugin]}}]
    document = {"apiVersion": "apisix.apache.org/v2", "kind": "ApisixGlobalRuleList", "items": items}
    status, lines = check(plugins, "rules.json", json.dumps(document))

    expected = "rules.json: ApisixGlobalRule all, ext-plugin-pre-req: plugin 1, nope: there is no plugin of this name"
    assert (status, lines[0][: len(expected)]) == (1, expected)


def test_output_of_kubectl(plugins: Path) -> None:
    """`kubectl get apisixroutes -o json` prints a list of manifests."""
    route = {"name": "api", "plugins": [{"name": "ext-plugin-pre-req", "config": {"conf": [{"name": "nope", "value": ""}]}}]}
    item = {"apiVersion": "apisix.apache.org/v2", "kind": "ApisixRoute", "metadata": {"name": "web"}, "spec": {"http": [route]}}
    document = {"apiVersion": "v1", "kind": "List", "items": [item]}
    status, lines = check(plugins, "routes.json", json.dumps(document, indent=1))

    expected = "routes.json, line 20: ApisixRoute web, rule api, ext-plugin-pre-req: plugin 1, nope: there is no plugin of this name"
    assert (status, lines[0][: len(expected)]) == (1, expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "{plugins: {ext-plugin-pre-req: {}}}",
            "in a manifest, plugins must be a list of entries with name, enable and config; this one was not checked",
        ),
        ("{plugins: [{ext-plugin-pre-req: {}}]}", "each entry of plugins must have a name and a config; this one was not checked"),
        ("{plugins: [ext-plugin-pre-req]}", "each entry of plugins must have a name and a config; this one was not checked"),
        (
            "{plugins: [{name: ext-plugin-pre-req}, {name: ext-plugin-pre-req}]}",
            "ext-plugin-pre-req: this plugin is here twice, and only the last one counts",
        ),
        (
            "{ext-plugin-pre-req: {}}",
            "ext-plugin-pre-req: this is not in the list of plugins, so APISIX does not run it; move it there, as name and config",
        ),
        ("{plugins: [], plugins: []}", "the key plugins is here twice, and only the last one counts"),
    ],
)
def test_mistakes_in_manifests(plugins: Path, spec: str, expected: str) -> None:
    """A part that looks like a configuration but does not run is a problem."""
    text = f"apiVersion: apisix.apache.org/v2\nkind: ApisixGlobalRule\nmetadata: {{name: all}}\nspec: {spec}\n"
    status, lines = check(plugins, "rule.yaml", text)
    separator = ", " if expected.startswith("ext-plugin") else ": "

    assert (status, lines[0]) == (1, f"rule.yaml, line 4: ApisixGlobalRule all{separator}{expected}")


DUMP_V2 = {
    "action": "get",
    "count": "1",
    "node": {
        "dir": True,
        "key": "/apisix/services",
        "nodes": [
            {
                "key": "/apisix/services/5",
                "value": {"id": "5", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "nope", "value": ""}]}}},
                "createdIndex": 1,
                "modifiedIndex": 1,
            }
        ],
    },
}


def test_a_dump_of_apisix_2(plugins: Path) -> None:
    """Before APISIX 3, the admin API returned its objects as nodes of etcd."""
    status, lines = check(plugins, "services.json", json.dumps(DUMP_V2, indent=2))

    expected = "services.json, line 15: service 5, ext-plugin-pre-req: plugin 1, nope: there is no plugin of this name"
    assert (status, lines[0][: len(expected)]) == (1, expected)


def test_json_that_yaml_reads_differently(plugins: Path) -> None:
    """If YAML reads a JSON file differently, it is checked as JSON, without line numbers."""
    conf = [{"name": "nope", "value": "\U0001f600"}]
    status, lines = check(plugins, "r.json", json.dumps({"id": "1", "plugins": {"ext-plugin-pre-req": {"conf": conf}}}, indent=2))
    assert (status, lines[0].startswith("r.json: route 1, ext-plugin-pre-req: plugin 1, nope: ")) == (1, True)


def test_a_directory(plugins: Path) -> None:
    """All YAML and JSON files are checked, even if one of them can't be read. Hidden files are not."""
    directory = plugins.parent / "deploy"
    (directory / "deeper").mkdir(parents=True)
    (directory / ".git").mkdir()
    (directory / ".git" / "bad.yaml").write_text("a: [")
    (directory / "README.md").write_text("a: [")
    (directory / "deeper" / "adc.yml").write_text(ADC)
    (directory / "deployment.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
    (directory / "template.yaml").write_text("a:\n  {{- toYaml .Values.b }}\n")
    (directory / "broken.json").write_text('{\n"a": }\n')
    result = invoke("check", "--plugins", plugins, directory)
    lines = result.output.replace(f"{plugins.parent}/", "").splitlines()

    assert result.exit_code == 1
    assert "note: deploy: 1 of 4 files contain no ext-plugin configuration" in lines
    assert "deploy/broken.json, line 2: this is not JSON: Expecting value" in lines
    assert any(line.startswith("deploy/template.yaml, line 2: this is not YAML: ") for line in lines)
    assert sum(line.startswith("deploy/deeper/adc.yml, line ") for line in lines) == 5
    assert lines[-1] == "3 plugins, 6 configurations: 7 problems"


def test_a_directory_without_configurations(plugins: Path) -> None:
    """If a named directory contains no configuration, this is a problem."""
    directory = plugins.parent / "empty"
    directory.mkdir()
    result = invoke("check", "--plugins", plugins, directory)

    assert result.exit_code == 1
    assert f"{directory}: there is no ext-plugin configuration in the YAML and JSON files of this directory" in result.output
