# SPDX-License-Identifier: Apache-2.0
"""Secrets are in nothing that the inspector of a real `dev` sends, also if a plugin logs them, raises them, and sets them."""

import json
import re
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.dev_process import TIMEOUT_S, Dev
from tests.gateway.inspector.test_saved_test import called

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
        print("printed", found, flush=True)
        logging.warning("logged %s %s", found, self.config.phrase)
        request.headers["x-copy"] = found
        if "fail" in request.args:
            raise ValueError(found)
"""
SECRETS = {"header": "hedgehog-in-header", "query": "quokka/in query", "body": "badger-in-body", "phrase": "porcupine-in-conf"}


def test_secrets(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "leaky.py").write_text(PLUGIN, encoding="utf-8")
    sent: list[str] = []
    seen, ended = threading.Event(), threading.Event()
    with Dev(tmp_path) as dev:
        chain = {"ext-plugin-pre-req": {"conf": [{"name": "leaky", "value": json.dumps({"phrase": SECRETS["phrase"]})}]}}
        route = {"id": "1", "uri": "/*", "upstream": {"nodes": {f"127.0.0.1:{dev.upstream_port}": 1}}, "plugins": chain}
        (tmp_path / "apisix.yaml").write_text(json.dumps({"routes": [route]}) + "\n#END\n", encoding="utf-8")
        dev.event("notice", text="apisix.yaml: routes reloaded")
        inspector = re.findall(r"inspector +(\S+)", dev.welcome)[0]
        sent.append(called(f"{inspector}/api/routes")[1].decode())

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
        for target in ("/a?token=quokka%2Fin+query", "/b?fail&token=quokka%2Fin%20query"):
            called(dev.gateway + target, "POST", body, content_type="application/json", x_api_key=SECRETS["header"])
        flows = json.loads(called(f"{inspector}/api/flows")[1])
        sent += [called(f"{inspector}/api/flows/{flow['id']}")[1].decode() for flow in flows]
        (tmp_path / "plugins" / "leaky.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
        assert ended.wait(3 * TIMEOUT_S), sent
        listener.join(TIMEOUT_S)

    everything = "".join(sent)
    assert "logged redacted-" in everything
    assert "printed redacted-" in everything
    assert "leaky.py" in sent[-1]
    forms = [*SECRETS.values(), "quokka%2Fin+query", "quokka%2Fin%20query", "quokka"]
    assert {form: [line for line in sent if form in line] for form in forms if form in everything} == {}
