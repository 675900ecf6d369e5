# SPDX-License-Identifier: Apache-2.0
"""Secrets are in nothing that a real `dev` records, exports and shows, also if a plugin logs them, raises them, and sets them."""

import json
import re
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.dev_process import TIMEOUT_S, Dev
from tests.gateway.inspector.test_saved_test import called
from tests.tracing.otlp_receiver import receiver

pytestmark = pytest.mark.process

PLUGIN = """
import logging
from typing import Annotated

import msgspec

from apisix import Plugin, Request


class Config(msgspec.Struct):
    phrase: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]


class Leaky(Plugin[Config]):
    def on_request(self, request: Request) -> None:
        found = f"{request.headers['x-api-key']} {request.args['token']} {request.json()['password']}"
        print("printed", found, self.config.phrase, flush=True)
        logging.warning("logged %s %s", found, self.config.phrase)
        request.headers["x-copy"] = found
        if "fail" in request.args:
            raise ValueError(found)
"""
SECRETS = {"header": "hedgehog-in-header", "query": "quokka/in query", "body": "badger-in-body", "phrase": "porcupine-in-conf"}


# What a plugin prints, logs and raises is in the runner's log as its author wrote it. This one does not write secrets.
CAREFUL = (
    PLUGIN.replace("Leaky", "Careful")
    .replace('print("printed", found, self.config.phrase, flush=True)', "pass")
    .replace("logging.warning(", "str(")
    .replace("ValueError(found)", "ValueError")
)
OF_AUTHOR = ('"logger":"root"', "printed", "raise ValueError(found)")
"""What is in the lines of the log that the plugin `leaky` wrote."""
FORMS = [*SECRETS.values(), "quokka%2Fin+query", "quokka%2Fin%20query", "quokka"]
"""How the secrets could be written."""
CALLED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-api-key": SECRETS["header"]}


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are neither in records, spans and logs, nor in anything that the inspector sends to a page that shows only requests."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "leaky.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "plugins" / "careful.py").write_text(CAREFUL, encoding="utf-8")
    records = tmp_path / "calls.jsonl"
    monkeypatch.setenv("APISIX_RUNNER_RECORD_FILE", str(records))
    sent: list[str] = []
    seen, ended = threading.Event(), threading.Event()
    with receiver() as received:
        for name, value in received.environ().items():
            monkeypatch.setenv(name, value)
        with Dev(tmp_path) as dev:
            routes = [route(name, dev.upstream_port) for name in ("leaky", "careful")]
            (tmp_path / "apisix.yaml").write_text(json.dumps({"routes": routes}) + "\n#END\n", encoding="utf-8")
            dev.event("notice", text="apisix.yaml: routes reloaded")
            inspector = re.findall(r"inspector +(\S+)", dev.welcome)[0]

            def listen() -> None:
                with urlopen(f"{inspector}/api/events", timeout=3 * TIMEOUT_S) as response:  # noqa: S310  # the inspector of this test
                    for line in response:
                        sent.append(line.decode())
                        seen.set()
                        if b"nowhere_to_be_found" in line:
                            ended.set()
                            return

            listener = threading.Thread(target=listen)
            listener.start()
            assert seen.wait(TIMEOUT_S)
            body = json.dumps({"password": SECRETS["body"]}).encode()
            for target in ("/leaky?token=quokka%2Fin+query", *(f"/{name}?fail&token=quokka%2Fin%20query" for name in ("leaky", "careful"))):
                called(dev.gateway + target, "POST", body, content_type="application/json", **CALLED)
            flows = json.loads(called(f"{inspector}/api/flows")[1])
            sent += [called(f"{inspector}/api/flows/{flow['id']}")[1].decode() for flow in flows]
            (tmp_path / "plugins" / "leaky.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
            assert ended.wait(3 * TIMEOUT_S), sent
            listener.join(TIMEOUT_S)
            sent.append(called(f"{inspector}/api/routes")[1].decode())
        recorded = records.read_text(encoding="utf-8")
        log = [line for line in dev.lines if not any(part in line for part in OF_AUTHOR)]

    everything = "".join(sent)
    assert "logged redacted-" in everything
    assert "printed redacted-" in everything
    assert any("leaky.py" in line for line in sent)
    assert recorded.count("redacted-") > 10
    assert b"plugin careful" in b"".join(received.raw)
    places = {"inspector": sent, "records": recorded.splitlines(), "spans": [str(raw) for raw in received.raw], "log": log}
    found = {name: [line for line in lines if any(form in line for form in FORMS)] for name, lines in places.items()}
    assert found == {name: [] for name in places}


def route(plugin: str, upstream_port: int) -> dict[str, object]:
    """Return a route with a plugin that gets a secret in its configuration."""
    chain = {"ext-plugin-pre-req": {"conf": [{"name": plugin, "value": json.dumps({"phrase": SECRETS["phrase"]})}]}}
    return {"id": plugin, "uri": f"/{plugin}", "upstream": {"nodes": {f"127.0.0.1:{upstream_port}": 1}}, "plugins": chain}
