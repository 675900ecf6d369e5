# SPDX-License-Identifier: Apache-2.0
"""The inspector sends requests again, unchanged or edited, and runs them through the plugins again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from apisix.gateway.inspector.actions import Actions
from apisix.gateway.inspector.server import Inspector
from apisix.gateway.server import Gateway
from tests.gateway.bed import TestBed

PRE_REQ = {"ext-plugin-pre-req": {"conf": [{"name": "a", "value": "{}"}]}}


@dataclass
class Inspected:
    """An inspector of a test bed's gateway, and a client of both."""

    bed: TestBed
    inspector: Inspector
    page: httpx.AsyncClient

    async def request(self, method: str = "GET", target: str = "/a?n=1", headers: list[str] | None = None, body: bytes = b"") -> str:
        """Send a request to the gateway, and return its id in the inspector."""
        await self.bed.request(method, target, headers, body)
        return [flow.id for flow in self.inspector.flows][-1]

    async def post(self, path: str, body: object = None) -> Any:
        """Call the API, and return the JSON of the answer."""
        response = await self.page.post(path, json={} if body is None else body)
        return response.json()


@pytest.fixture
async def inspected(tmp_path: Path) -> AsyncIterator[Inspected]:
    """Return an inspector of a gateway with a scripted runner and upstream."""
    inspector = Inspector()
    async with TestBed(tmp_path) as bed:
        gateway = Gateway(bed.store, bed.plugins, None, inspector.request)
        bed.server._gateway = gateway
        Actions(inspector, gateway, 9080)
        bed.route(plugins=PRE_REQ)
        port = await inspector.bind("127.0.0.1", 0)
        await inspector.serve()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as page:
            yield Inspected(bed, inspector, page)
        await inspector.stop()


def sent_values(bed: TestBed, name: str) -> list[list[str]]:
    """Return the values of a header in each request that the upstream received."""
    return [[value for key, value in request["headers"] if key.lower() == name] for request in bed.upstream.seen]


async def test_sending_again(inspected: Inspected) -> None:
    """The upstream receives the request a second time, with its secrets."""
    id = await inspected.request("POST", headers=["Authorization: Bearer correct-horse"], body=b"body")

    again = await inspected.post(f"/api/flows/{id}/send")

    assert again["id"] not in (id, None)
    assert sent_values(inspected.bed, "authorization") == [["Bearer correct-horse"]] * 2
    assert [request["body"] for request in inspected.bed.upstream.seen] == ["body", "body"]
    assert len(inspected.inspector.flows) == 2


async def test_sending_an_edited_request(inspected: Inspected) -> None:
    """Digests are replaced by the original secrets."""
    id = await inspected.request("POST", headers=["Authorization: Bearer correct-horse"], body=b"body")
    flow = (await inspected.page.get(f"/api/flows/{id}")).json()
    headers = [[name, value] for name, value in flow["request"]["headers"] if name != "Content-Length"] + [["X-New", "1"]]

    await inspected.post(f"/api/flows/{id}/send", {"method": "PUT", "target": "/b", "headers": headers, "body": "longer body"})

    last = inspected.bed.upstream.seen[-1]
    assert (last["method"], last["target"], last["body"]) == ("PUT", "/b", "longer body")
    assert (sent_values(inspected.bed, "x-new")[-1], sent_values(inspected.bed, "authorization")[-1]) == (["1"], ["Bearer correct-horse"])


@pytest.mark.parametrize("body", [{"target": "no-slash"}, {"other": 1}, {"headers": [["a"]]}, {"method": 1}])
async def test_edits_that_are_refused(inspected: Inspected, body: object) -> None:
    id = await inspected.request()

    response = await inspected.page.post(f"/api/flows/{id}/send", json=body)

    assert response.status_code == 400
    assert len(inspected.bed.upstream.seen) == 1


async def test_running_again(inspected: Inspected) -> None:
    """The plugins see the request again, but the upstream does not, and the list has no further request."""
    id = await inspected.request()

    inspected.bed.runner.script(100)["rewrite"] = {"headers": [["x-new", "1"]]}
    result = await inspected.post(f"/api/flows/{id}/rerun")

    assert ["x-new", "1"] in result["after"]["upstreams"][0]["request"]["headers"]
    assert ["x-new", "1"] not in result["before"]["upstreams"][0]["request"]["headers"]
    assert result["after"]["response"]["body"] == result["before"]["response"]["body"]
    assert (len(inspected.bed.upstream.seen), len(inspected.inspector.flows)) == (1, 1)


async def test_a_request_that_is_not_kept_any_more(inspected: Inspected) -> None:
    for action in ("send", "rerun"):
        assert (await inspected.page.post(f"/api/flows/none/{action}", json={})).status_code == 404
