# SPDX-License-Identifier: Apache-2.0
"""The routes with their chains, and the form of a configuration."""

import json

import pytest
import yaml

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.project import Project, row


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
    widths = form.locator("label:not(.checkbox)").evaluate_all("labels => labels.map((label) => label.offsetWidth)")
    assert len(set(widths)) == 1


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
    # One message does not replace the other.
    expect(page.get_by_role("status").get_by_text("tag of route orders has the new configuration.")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("route orders: tag has a new configuration")).to_be_visible()
    expect(page.locator("summary", has_text='{"tenant":"west","limit":50}')).to_be_visible()
    expect(form.get_by_label("tenant *")).to_be_visible()
    own_project.send("/orders")
    page.get_by_role("button", name="Requests").click()
    row(page, "/orders").click()
    expect(page.locator("table.edits tr", has_text="x-tenant").locator("td.after")).to_have_text("west")


def test_the_schema_of_a_configuration(project: Project, open_page: Open) -> None:
    plugin = opened(open_page(project), "guarded", "tag")
    plugin.get_by_text("JSON Schema").click()

    schema = json.loads(plugin.locator("details pre").inner_text())
    assert sorted(schema["$defs"]["TagConfig"]["properties"]) == ["limit", "role", "strict", "tenant"]


def test_what_is_typed_stays_after_a_reload(own_project: Project, open_page: Open) -> None:
    """Also the focus, if the routes are loaded again while somebody edits another one."""
    page = open_page(own_project)
    tenant = opened(page, "guarded", "tag").locator("form").get_by_label("tenant *")
    tenant.fill("nobody")
    routes = (own_project.directory / "apisix.yaml").read_text(encoding="utf-8")
    own_project.save("apisix.yaml", routes.replace("/plain*", "/simple*"))

    expect(page.locator('[data-route="plain"]')).to_contain_text("/simple*")
    expect(tenant).to_have_value("nobody")
    expect(tenant).to_be_focused()


def test_writing_to_the_file(own_project: Project, open_page: Open) -> None:
    """The changed configuration is in apisix.yaml, comments are lost as the page says, and the old file is kept."""
    path = own_project.directory / "apisix.yaml"
    old = "# our routes\n" + path.read_text(encoding="utf-8")
    own_project.save("apisix.yaml", old)
    page = open_page(own_project)
    form = opened(page, "orders", "tag").locator("form")
    form.get_by_label("tenant *").fill("west")
    form.get_by_role("button", name="Apply").click()
    expect(page.locator("summary", has_text='{"tenant":"west"}')).to_be_visible()
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == yaml.safe_load(old)
    page.get_by_role("button", name="Write to apisix.yaml").click()

    expect(
        page.get_by_text("The routes were written to apisix.yaml. The previous file is apisix.yaml.bak. Comments were lost.")
    ).to_be_visible()
    text = path.read_text(encoding="utf-8")
    written, before = yaml.safe_load(text), yaml.safe_load(old)
    before["routes"][0]["plugins"]["ext-plugin-pre-req"]["conf"][0]["value"] = '{"tenant":"west"}'
    assert written == before
    assert "# our routes" not in text
    assert (own_project.directory / "apisix.yaml.bak").read_text(encoding="utf-8") == old
