# SPDX-License-Identifier: Apache-2.0
"""The inspector serves its own page, and refuses those of other origins."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import msgspec
import pytest

from apisix.gateway.inspector.flows import flow_of
from apisix.gateway.inspector.server import Inspector
from apisix.gateway.report import CapturedMessage, PhaseReport, RequestReport, UpstreamReport
from apisix.runner.records.format import CallRecord, Edit, StepRecord
from apisix.runner.records.redaction import digest

REPORT = RequestReport(
    "GET", "/a?token=correct-horse", 200, received=CapturedMessage((("Authorization", "Bearer correct-horse"), ("X-Seen", "correct-horse")))
)


@pytest.fixture
async def inspector() -> AsyncIterator[Inspector]:
    """Return an inspector without a gateway, which has seen one request."""
    inspector = Inspector()
    inspector.request(REPORT)
    yield inspector
    await inspector.stop()


@pytest.fixture
async def page(inspector: Inspector) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the inspector."""
    port = await inspector.bind("127.0.0.1", 0)
    await inspector.serve()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client


async def test_the_page_and_its_policy(page: httpx.AsyncClient) -> None:
    response = await page.get("/")

    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "access-control-allow-origin" not in response.headers


async def test_requests_without_their_secrets(page: httpx.AsyncClient) -> None:
    (summary,) = (await page.get("/api/flows")).json()
    flow = (await page.get(f"/api/flows/{summary['id']}")).text

    assert "correct-horse" not in flow
    assert "Bearer redacted-" in flow


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:80"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/", "/api/flows", "/api/events"])
async def test_other_sites(page: httpx.AsyncClient, headers: dict[str, str], path: str) -> None:
    response = await page.get(path, headers=headers)

    assert response.status_code == 403


async def test_bodies_of_other_content_types(page: httpx.AsyncClient) -> None:
    """A page of another site can send them without a preflight request of the browser."""
    response = await page.request("DELETE", "/api/flows", content=b"{}", headers={"content-type": "text/plain"})

    assert response.status_code == 415
    assert len((await page.get("/api/flows")).json()) == 1


@pytest.mark.parametrize(
    "path", ["/nothing", "/../server.py", "/..%2fserver.py", "/.hidden", "/static/app.js", "/api/nothing", "/api/flows/none"]
)
async def test_unknown_paths(page: httpx.AsyncClient, path: str) -> None:
    assert (await page.get(path)).status_code == 404


async def test_events(page: httpx.AsyncClient, inspector: Inspector) -> None:
    async with page.stream("GET", "/api/events") as response, asyncio.timeout(10):
        lines = response.aiter_lines()
        assert await anext(lines) == ": connected"
        inspector.request(replace(REPORT, target="/b"))
        while not (line := await anext(lines)).startswith("data: "):
            pass

    assert json.loads(line.removeprefix("data: "))["target"] == "/b"


async def test_a_page_that_does_not_read_is_disconnected(
    page: httpx.AsyncClient, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are not kept for it without a limit."""
    monkeypatch.setattr("apisix.gateway.inspector.server.EVENTS_KEPT", 2)
    async with page.stream("GET", "/api/events") as response, asyncio.timeout(10):
        lines = response.aiter_lines()
        assert await anext(lines) == ": connected"
        for _ in range(4):
            inspector.request(REPORT)
        rest = [line async for line in lines if line.startswith("data: ")]

    assert len(rest) < 4


async def test_log_lines_without_the_secrets_of_requests(page: httpx.AsyncClient, inspector: Inspector) -> None:
    """Lines of calls arrive with their record. Others can repeat a secret of an earlier request."""
    async with page.stream("GET", "/api/events") as response, asyncio.timeout(10):
        lines = response.aiter_lines()
        assert await anext(lines) == ": connected"
        inspector.log({"message": "of a call: correct-horse", "call": 1})
        inspector.log({"message": "between calls: correct-horse"})
        while not (line := await anext(lines)).startswith("data: "):
            pass

    assert json.loads(line.removeprefix("data: ")) == {"message": f"between calls: {digest('correct-horse')}"}


def test_secrets_in_a_query_are_not_shown() -> None:
    """Also if they are nowhere else in the request."""
    report = RequestReport("GET", "/a?token=correct%2Dhorse&b=1&flag", 200)

    assert flow_of(report, "1")[0].target == f"/a?token={digest('correct-horse')}&b=1&flag"


def test_secrets_of_a_configuration_are_not_shown() -> None:
    """The record of the runner has their digests."""
    edit = Edit(kind="header", name="x-word", after=[digest("correct-horse")])
    step = StepRecord(plugin="a", runs="inline", began_s=0.0, duration_s=0.0, edits=[edit])
    record = CallRecord(
        id="1", call_id=1, time="2026-01-01T00:00:00Z", duration_s=0.1, configuration="c", plugins=["a"], outcome="rewrite", steps=[step]
    )
    sent = UpstreamReport("n", "GET", "/", 0.0, CapturedMessage((("x-word", "correct-horse"), ("x-text", "it is correct-horse"))))
    report = RequestReport("GET", "/", 200, upstreams=[sent], phases=[PhaseReport("ext-plugin-pre-req", ("a",), record=record)])

    assert "correct-horse" not in msgspec.json.encode(flow_of(report, "1")[0]).decode()


async def test_clearing(page: httpx.AsyncClient) -> None:
    await page.delete("/api/flows")

    assert (await page.get("/api/flows")).json() == []
