# SPDX-License-Identifier: Apache-2.0
"""The routes with their chains, and the form of a configuration."""

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.project import Project


def opened(page: Page, route: str, plugin: str) -> Locator:
    """Open a plugin in the chain of a route, and return its element."""
    page.get_by_role("button", name="Routes").click()
    found = page.locator(f'[data-route="{route}"] details.plugin').filter(has=page.locator("summary b", has_text=plugin))
    found.locator("summary").first.click()
    return found


def test_routes_and_their_chains(project: Project, open_page: Open) -> None:
    page = open_page(project)
    page.get_by_role("button", name="Routes").click()
    guarded = page.locator('[data-route="guarded"]')

    expect(guarded).to_contain_text("/guarded*")
    expect(guarded.locator(".chain > li")).to_contain_text(["tag", "guard"])
    expect(page.locator('[data-route="plain"]')).to_contain_text("no plugins of the runner")


def test_a_form_is_made_from_the_schema(project: Project, open_page: Open) -> None:
    form = opened(open_page(project), "guarded", "tag").locator("form")

    expect(form.get_by_label("tenant *")).to_have_value("south")
    expect(form.get_by_label("limit")).to_have_value("5")
    expect(form.get_by_label("limit")).to_have_attribute("max", "100")
    expect(form.get_by_label("role").locator("option")).to_have_text(["default (reader)", "reader", "writer"])
    expect(form.get_by_label("strict")).not_to_be_checked()
    expect(form.get_by_text("requests per second")).to_be_visible()


def test_a_configuration_is_validated_and_applied(own_project: Project, open_page: Open) -> None:
    page = open_page(own_project)
    form = opened(page, "orders", "tag").locator("form")
    form.get_by_label("limit").fill("500")
    expect(form.get_by_role("status")).to_contain_text("100")
    expect(form.get_by_role("button", name="Apply")).to_be_disabled()

    form.get_by_label("limit").fill("50")
    form.get_by_label("tenant *").fill("west")
    expect(form.locator("p.error")).to_have_text("")
    form.get_by_role("button", name="Apply").click()
    # The message that confirms it can be replaced by the one that the routes have changed.
    expect(page.get_by_text('{"tenant":"west","limit":50}')).to_be_visible()
