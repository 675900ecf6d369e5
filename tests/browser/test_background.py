# SPDX-License-Identifier: Apache-2.0
"""Background tasks of plugins: starts, failures with their tracebacks, and the next start."""

import re
import time

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.project import Project
from tests.dev_process import TIMEOUT_S

REFRESH = """\
import asyncio
from pathlib import Path

from apisix import Plugin, Request


class Refresh(Plugin[str]):
    async def background(self) -> None:
        while not Path(self.config).exists():
            await asyncio.sleep(0.05)
        raise LookupError("no keys")

    def on_request(self, request: Request) -> None: ...
"""
ROUTE = """\
routes:
  - id: refreshed
    uri: /refreshed
    plugins: {{ext-plugin-pre-req: {{conf: [{{name: refresh, value: '{file}'}}]}}}}
"""


def test_background_tasks(own_project: Project, open_page: Open) -> None:
    """A task is shown when it begins. Its failure is reported on any view, with the traceback and the time of the next start."""
    file = own_project.directory / "fails"
    own_project.save("plugins/refresh.py", REFRESH)
    routes = (own_project.directory / "apisix.yaml").read_text(encoding="utf-8").removeprefix("routes:\n")
    own_project.save("apisix.yaml", ROUTE.format(file=file) + "    upstream_id: echo\n" + routes)
    own_project.dev.event("notice", text="apisix.yaml: routes reloaded")
    page = open_page(own_project)
    page.get_by_role("button", name="Routes").click()
    tasks = page.locator("details.background")
    expect(page.locator('[data-route="refreshed"]')).to_be_visible()
    expect(tasks).to_be_hidden()

    deadline = time.monotonic() + TIMEOUT_S
    while own_project.send("/refreshed") != 200:  # until the runner has loaded the plugin
        assert time.monotonic() < deadline
    expect(tasks.locator("li")).to_contain_text("refresh")
    expect(tasks.locator("li")).to_contain_text(re.compile(r"running.*started once · failed 0 times"))

    page.get_by_role("button", name="Requests").click()
    file.touch()
    expect(
        page.get_by_role("status").get_by_text(re.compile(r"of refresh failed: LookupError: no keys\. It starts again at")).first
    ).to_be_visible()
    page.get_by_role("button", name="Routes").click()
    expect(tasks.locator("li")).to_contain_text(re.compile(r"failed.*starts again at \d\d:\d\d:\d\d"))
    tasks.locator("summary", has_text="traceback").click()
    expect(tasks.locator("pre")).to_contain_text("refresh.py")
    expect(tasks.locator("pre")).to_contain_text("LookupError: no keys")
    page.get_by_role("button", name="Log").click()
    log = page.get_by_role("main", name="Log")
    expect(log).to_contain_text("the background task of plugin refresh failed. It is started again in 1 s")

    file.unlink()
    page.reload()
    page.get_by_role("button", name="Routes").click()
    expect(tasks.locator("li")).to_contain_text("running")
    expect(tasks.locator("summary", has_text="traceback of the last failure")).to_be_visible()
