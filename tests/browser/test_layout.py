# SPDX-License-Identifier: Apache-2.0
"""Each view fits into wide and narrow windows, in light and dark. The screenshots are those of the documentation."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.project import ORDER, Project, row


def the_list(page: Page) -> None:
    """Show the list only."""


def a_request(page: Page) -> None:
    """Show a request that a plugin changed."""
    row(page, "/orders").click()
    expect(page.get_by_role("heading", name="/orders")).to_be_visible()


def a_failure(page: Page) -> None:
    """Show a request in which a plugin failed."""
    row(page, "/broken").click()
    page.get_by_role("figure").last.scroll_into_view_if_needed()


def the_edit_form(page: Page) -> None:
    """Show the form that edits a request."""
    a_request(page)
    page.get_by_role("button", name="Edit and send").click()
    expect(page.get_by_label("Path and query")).to_be_focused()


def the_routes(page: Page) -> None:
    """Show the form of a configuration."""
    page.get_by_role("button", name="Routes").click()
    page.locator('[data-route="guarded"] details.plugin summary').first.click()
    expect(page.locator("[data-route=guarded]").get_by_label("tenant *")).to_be_visible()


def the_log(page: Page) -> None:
    """Show the log."""
    page.get_by_role("button", name="Log").click()


VIEWS = {"list": the_list, "request": a_request, "failure": a_failure, "edit": the_edit_form, "routes": the_routes, "log": the_log}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("view", VIEWS)
def test_layout(project: Project, open_page: Open, pictures: Path, view: str, width: int, scheme: str) -> None:
    for target, status in {"/plain?page=2": 200, "/guarded": 401, "/broken": 503, "/nowhere": 404}.items():
        assert project.send(target) == status
    project.send("/orders?page=7", "POST", ORDER, x_debug="on", content_type="application/json")
    show: Callable[[Page], None] = VIEWS[view]
    page = open_page(project, width, 800 if width == 1280 else 812, color_scheme=scheme)
    expect(page.get_by_role("listbox").get_by_role("option")).to_have_count(5)
    show(page)
    page.screenshot(path=pictures / f"inspector-{view}-{width}-{scheme}.png")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.locator("main:visible, main:visible > section:visible").evaluate_all(
            "parts => parts.filter((part) => part.scrollWidth > part.clientWidth).map((part) => part.id)"
        )
        == []
    )
    assert (
        page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    )
