# SPDX-License-Identifier: Apache-2.0
"""The metadata of a request: what each phase has found, and what each plugin changed."""

import time

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.project import Project, row
from tests.dev_process import TIMEOUT_S

SHARED = """\
from apisix import Plugin, Request, Response


class Shared(Plugin):
    def on_request(self, request: Request) -> None:
        request.metadata()["tenant"] = "north"
        request.metadata()["token"] = "correct-horse"

    def on_response(self, response: Response) -> None:
        response.headers["x-tenant"] = response.metadata()["tenant"]
"""
ROUTE = """\
routes:
  - id: shared
    uri: /shared
    plugins:
      ext-plugin-pre-req: {conf: [{name: shared, value: '{}'}]}
      ext-plugin-post-resp: {conf: [{name: shared, value: '{}'}]}
    upstream_id: echo
"""


def phase(page: Page, name: str) -> Locator:
    """Return the section of a phase in the view of the selected request."""
    return page.locator("#detail > details.section").filter(has=page.locator("summary", has_text=name)).first


def test_metadata(own_project: Project, open_page: Open) -> None:
    own_project.save("plugins/shared.py", SHARED)
    routes = (own_project.directory / "apisix.yaml").read_text(encoding="utf-8").removeprefix("routes:\n")
    own_project.save("apisix.yaml", ROUTE + routes)
    own_project.dev.event("notice", text="apisix.yaml: routes reloaded")
    deadline = time.monotonic() + TIMEOUT_S
    while own_project.send("/shared") != 200:  # until the runner has loaded the plugin
        assert time.monotonic() < deadline
    page = open_page(own_project)
    row(page, "/shared").first.click()
    first, last = phase(page, "ext-plugin-pre-req"), phase(page, "ext-plugin-post-resp")

    tenant = first.locator("table.edits tbody tr", has_text="metadata tenant")
    expect(tenant.locator("td")).to_have_text(["none", '"north"'])
    expect(first.locator("table.edits tbody tr", has_text="metadata token")).to_contain_text("redacted-")
    first.get_by_text("metadata of the request, as later phases find it").click()
    expect(first.locator("pre", has_text='"tenant": "north"')).to_be_visible()
    last.get_by_text("metadata of the request, as this phase has found it").click()
    expect(last.locator("pre", has_text='"tenant": "north"')).to_be_visible()
    expect(last).to_contain_text("The metadata of the request was removed")
    expect(page.locator("#detail")).not_to_contain_text("correct-horse")
