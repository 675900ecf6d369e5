# SPDX-License-Identifier: Apache-2.0
"""The inspector shows routes with schemas and without secrets, changes configurations, and writes apisix.yaml."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from apisix.gateway.inspector import plugin_check
from apisix.gateway.inspector.configurations import Configurations
from apisix.gateway.inspector.plugin_check import PluginCheck
from apisix.gateway.inspector.routes import Routes
from apisix.gateway.inspector.server import Inspector
from apisix.gateway.resources.standalone import RoutesFile
from apisix.gateway.resources.store import Store

pytestmark = pytest.mark.process

PLUGIN = """
import pathlib
from typing import Annotated

import msgspec

from apisix import Plugin, Request

print("imported")


class Config(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str
    phrase: Annotated[str, msgspec.Meta(min_length=30, extra_json_schema={"writeOnly": True})] = "-" * 30
    pin: Annotated[int, msgspec.Meta(le=9_999_999, extra_json_schema={"writeOnly": True})] = 0


class Tag(Plugin[Config]):
    def on_request(self, request: Request) -> None: ...
"""
PHRASE = "correct-horse-battery-staple-and-more"
CONFIGURATION = json.dumps({"tenant": "north", "phrase": PHRASE, "pin": 7_654_321})
NODES = {"nodes": {"127.0.0.1:1980": 1}}
FILE = f"""\
# A comment
plugins: [{{name: ext-plugin-pre-req}}]
routes:
  - uri: /orders
    id: orders
    upstream: {json.dumps(NODES)}
    plugins:
      ext-plugin-pre-req: {{conf: [{{name: tag, value: '{CONFIGURATION}'}}]}}
  - id: nowhere
    uris: [/a, /b]
    name: left out
    upstream: {{nodes: 7}}
global_rules:
  - id: all
    plugins: {{ext-plugin-post-req: {{conf: [{{name: missing, value: '{{"phrase": "{PHRASE}"}}'}}]}}}}
#END
"""


@dataclass
class Served:
    """The API of an inspector about routes, with what it works on."""

    store: Store
    file: Path
    page: httpx.AsyncClient
    check: PluginCheck
    changes: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        """Call the API, and return the JSON of the answer."""
        response = await self.page.request(method, path, json=body, timeout=60)
        assert (response.status_code, response.text if response.status_code != status else "") == (status, "")
        return response.json()

    async def plugin(self, route: str = "orders") -> Any:
        """Return the first plugin of a route, as the page shows it."""
        listed = await self.call("GET", "/api/routes")
        (found,) = [each for each in listed["routes"] if each["id"] == route]
        return found["phases"][0]["plugins"][0]

    def value(self) -> Any:
        """Return the configuration that the gateway has."""
        return json.loads(self.store.records("routes")["orders"].value["plugins"]["ext-plugin-pre-req"]["conf"][0]["value"])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Serve the API, with a file of routes and a plugin."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tag.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "apisix.yaml"
    path.write_text(FILE, encoding="utf-8")
    inspector, store = Inspector(), Store()
    file = RoutesFile(path, store)
    file.load()
    check = PluginCheck(lambda: ["--plugins", str(tmp_path / "plugins")])
    port = await inspector.bind("127.0.0.1", 0)
    await inspector.serve()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as page:
        served = Served(store, path, page, check)
        Routes(inspector, store, file, check, Configurations(inspector, store, check), served.changes.append)
        yield served
    await inspector.stop()


async def test_routes(served: Served) -> None:
    """All routes are listed, with schemas, problems, and no secrets."""
    response = await served.page.get("/api/routes", timeout=60)
    listed = response.json()

    orders, nowhere, rule = listed["routes"]
    (plugin,) = orders["phases"][0]["plugins"]
    assert [orders["id"], orders["uris"], orders["origin"], orders["error"]] == ["orders", ["/orders"], "apisix.yaml", None]
    assert [orders["phases"][0]["phase"], plugin["name"], plugin["problem"]] == ["ext-plugin-pre-req", "tag", None]
    assert "tenant" in json.dumps(plugin["schema"])
    assert [nowhere["name"], nowhere["uris"], nowhere["phases"]] == ["left out", ["/a", "/b"], []]
    assert nowhere["error"].startswith("left out: ")
    assert [rule["id"], rule["name"]] == ["global_rules/all", "global rule all"]
    assert "there is no plugin" in rule["phases"][0]["plugins"][0]["problem"]
    assert listed["file"] == str(served.file)
    assert [secret for secret in (PHRASE, "7654321") if secret in response.text] == []


async def test_changing_a_configuration(served: Served) -> None:
    """The digests that the page shows are replaced by the secrets, also by a number."""
    shown = json.loads((await served.plugin())["value"])

    await served.call("PUT", "/api/routes/orders/ext-plugin-pre-req/0", {"value": json.dumps(shown | {"tenant": "south"})})

    assert served.value() == {"tenant": "south", "phrase": PHRASE, "pin": 7_654_321}
    assert (await served.plugin())["value"] == json.dumps(shown | {"tenant": "south"}, separators=(",", ":"))
    assert served.changes == ["route orders: tag has a new configuration"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"tenant": 1}', "tenant"),
        ('{"tenant": "south", "other": 1}', "other"),
        ("{", ""),
        ('{"tenant": "south", "phrase": "redacted-0123456789abcdef"}', "not known any more"),
        ('{"tenant": "south", "phrase": "short"}', "30"),
    ],
)
async def test_a_configuration_that_is_not_valid(served: Served, value: str, expected: str) -> None:
    """It is described while it is typed, and refused."""
    problems = (await served.call("POST", "/api/validate", {"plugin": "tag", "value": value}))["problems"]
    refused = await served.call("PUT", "/api/routes/orders/ext-plugin-pre-req/0", {"value": value}, 400)

    assert len(problems) == 1
    assert expected in problems[0]
    assert expected in refused["error"]
    assert served.value()["tenant"] == "north"


async def test_validating_digests(served: Served) -> None:
    """The secrets are validated, which may be longer, or numbers."""
    value = (await served.plugin())["value"]

    assert await served.call("POST", "/api/validate", {"plugin": "tag", "value": value}) == {"problems": []}


@pytest.mark.parametrize(
    "path",
    ["none/ext-plugin-pre-req/0", "orders/ext-plugin-pre-req/1", "orders/ext-plugin-post-req/0", "services%2F1/ext-plugin-pre-req/0"],
)
async def test_a_place_that_does_not_exist(served: Served, path: str) -> None:
    assert "error" in await served.call("PUT", f"/api/routes/{path}", {"value": "{}"}, 404)


async def test_schemas_are_loaded_again_after_a_reload(served: Served) -> None:
    await served.plugin()
    plugin = served.file.parent / "plugins" / "tag.py"
    plugin.write_text(PLUGIN.replace("tenant: str", "tenant: int"), encoding="utf-8")
    assert (await served.plugin())["problem"] is None

    served.check.forget()

    assert "tenant" in (await served.plugin())["problem"]


async def test_plugins_that_are_never_imported(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process is ended, and the page is told so."""
    monkeypatch.setattr(plugin_check, "TIMEOUT_S", 0.5)
    (served.file.parent / "plugins" / "stuck.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")

    refused = await served.call("GET", "/api/routes", status=504)

    assert refused["error"] == "the plugins could not be imported within 0.5 s to validate configurations"


async def test_writing(served: Served) -> None:
    """The file has all definitions with their secrets, and those of the admin API are from the file then."""
    served.store.put("routes", "new", {"uri": "/new", "upstream": NODES})
    served.store.put("consumers", "jack", {"username": "jack"})
    served.store.put("credentials", "jack/one", {"plugins": {"key-auth": {"key": "jacks-key"}}})
    served.store.put("secrets", "vault/1", {"uri": "http://127.0.0.1"})
    await served.call("PUT", "/api/routes/orders/ext-plugin-pre-req/0", {"value": '{"tenant": "south"}'})

    answer = await served.call("POST", "/api/routes/write", {})

    text = served.file.read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    assert answer == {"path": str(served.file), "note": f"The previous file is {served.file}.bak. Comments were lost."}
    assert text.endswith("\n#END\n")
    assert (served.file.parent / "apisix.yaml.bak").read_text(encoding="utf-8") == FILE
    assert [route["id"] for route in written["routes"]] == ["orders", "nowhere", "new"]
    assert written["routes"][0]["plugins"]["ext-plugin-pre-req"]["conf"][0]["value"] == '{"tenant": "south"}'
    assert PHRASE in written["global_rules"][0]["plugins"]["ext-plugin-post-req"]["conf"][0]["value"]
    assert [entry.get("id", entry.get("username")) for entry in written["consumers"]] == ["jack", "jack/credentials/one"]
    assert [written["plugins"], written["secrets"][0]["uri"]] == [[{"name": "ext-plugin-pre-req"}], "http://127.0.0.1"]
    assert [record.from_file for record in served.store.records("routes").values()] == [True, True, True]
    assert [consumer.name for consumer in served.store.consumers] == ["jack"]


@pytest.mark.parametrize("text", [FILE.replace("#END", ""), "routes: {id: 1}\n#END\n"], ids=["no end", "not a list"])
async def test_writing_over_a_file_that_can_not_be_loaded(served: Served, text: str) -> None:
    """It could be a change that the author is making."""
    served.file.write_text(text, encoding="utf-8")

    await served.call("POST", "/api/routes/write", {}, 409)

    assert served.file.read_text(encoding="utf-8") == text


async def test_writing_a_file_that_does_not_exist(served: Served) -> None:
    served.file.unlink()

    await served.call("POST", "/api/routes/write", {})

    assert len(yaml.safe_load(served.file.read_text(encoding="utf-8"))["routes"]) == 2
