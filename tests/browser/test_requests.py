# SPDX-License-Identifier: Apache-2.0
"""The list of requests and the view of one request."""

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Open
from tests.browser.project import ORDER, Project, row, rows


@pytest.fixture
def page(project: Project, open_page: Open) -> Page:
    """Return the page of a project without requests."""
    return open_page(project)


def step(page: Page, plugin: str) -> Locator:
    """Return what a plugin did in the selected request."""
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=plugin))


def section(page: Page, title: str) -> Locator:
    """Return a section of the selected request."""
    return page.locator("details.section").filter(has=page.locator("summary", has_text=title).first)


def test_the_list_fills_live(page: Page, project: Project) -> None:
    expect(page.get_by_text("No requests yet")).to_be_visible()
    project.send("/plain?first")
    expect(row(page, "/plain?first")).to_contain_text("200")
    project.send("/guarded?second")
    project.send("/broken?third")

    expect(rows(page)).to_contain_text(["/broken?third", "/guarded?second", "/plain?first"])
    expect(rows(page)).to_contain_text(["failed", "stopped", "passed"])
    expect(row(page, "/guarded?second")).to_contain_text("tag, guard")
    expect(page.get_by_role("button", name="Requests")).to_have_text("Requests 3")
    edges = rows(page).evaluate_all("rows => rows.map((row) => getComputedStyle(row).borderLeftColor)")
    assert len(set(edges)) == 3


def test_rows_of_all_outcomes_are_alike(page: Page, project: Project) -> None:
    """The classes of a row are not the classes of messages, which have a background and another padding."""
    for target in ("/plain", "/guarded", "/broken", "/orders", "/nowhere"):
        project.send(target)
    expect(rows(page)).to_contain_text(["error", "changed", "failed", "stopped", "passed"])
    looks = "rows => rows.map((row) => getComputedStyle(row)).map((style) => [style.backgroundColor, style.padding, style.color].join())"
    assert len(set(rows(page).evaluate_all(looks))) == 1


@pytest.mark.parametrize(
    ("control", "value", "shown"),
    [
        ("Filter by text", "ORDERS", ["/orders"]),
        ("Filter by text", "401", ["/guarded"]),
        ("Filter by route", "plain", ["/plain"]),
        ("Filter by plugin", "tag", ["/guarded", "/orders"]),
        ("Filter by outcome", "failed", ["/broken"]),
    ],
)
def test_filters(page: Page, project: Project, control: str, value: str, shown: list[str]) -> None:
    for target in ("/orders", "/plain", "/guarded", "/broken"):
        project.send(target)
    expect(rows(page)).to_have_count(4)
    field = page.get_by_label(control)
    if control == "Filter by text":
        field.fill(value)
    else:
        field.select_option(value)

    expect(rows(page)).to_have_count(len(shown))
    expect(rows(page)).to_contain_text(shown)
    expect(page.get_by_role("button", name="Requests")).to_have_text(f"Requests {len(shown)} of 4")


def test_pause_and_clear(page: Page, project: Project) -> None:
    project.send("/plain?1")
    expect(row(page, "/plain?1")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    project.send("/plain?2")
    expect(page.get_by_role("button", name="Requests")).to_have_text("Requests 1 (+1)")
    expect(row(page, "/plain?2")).to_have_count(0)

    page.get_by_role("button", name="Continue").click()
    expect(row(page, "/plain?2")).to_be_visible()

    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_text("No requests yet")).to_be_visible()
    page.reload()
    expect(page.get_by_text("No requests yet")).to_be_visible()


def test_the_timeline(page: Page, project: Project) -> None:
    project.send("/guarded", x_key="1")
    row(page, "/guarded").click()
    timeline = page.get_by_role("list", name="Timeline")

    names = ["gateway", "ext-plugin-pre-req", "tag", "variable scheme", "guard", f"upstream 127.0.0.1:{project.dev.upstream_port}"]
    expect(timeline.get_by_role("listitem")).to_contain_text(names)
    heights = timeline.locator(".bar-of").evaluate_all("bars => bars.map((bar) => bar.getBoundingClientRect().height)")
    assert len(set(heights)) == 1


def test_bars_of_failed_and_stopped_plugins(page: Page, project: Project) -> None:
    """The classes of a bar are not the classes of other elements, which have a padding or a border."""
    project.send("/guarded")
    project.send("/broken")
    for target in ("/guarded", "/broken"):
        row(page, target).click()
        expect(page.get_by_role("heading", name=target)).to_be_visible()
        bars = page.get_by_role("list", name="Timeline").locator(".bar-of")
        assert len(set(bars.evaluate_all("bars => bars.map((bar) => bar.getBoundingClientRect().height)"))) == 1


def test_what_a_plugin_changed(page: Page, project: Project) -> None:
    project.send("/orders?page=7", "POST", ORDER, x_debug="on", content_type="application/json")
    row(page, "/orders?page=7").click()
    edits = step(page, "tag").locator("table.edits tbody tr")

    def values(name: str) -> list[str]:
        return [str(text) for text in edits.filter(has_text=name).locator("td").all_inner_texts()]

    expect(edits.filter(has_text="x-tenant")).to_be_visible()
    assert values("x-tenant") == ["none", "north"]
    assert values("x-debug") == ["on", "none"]
    assert values("argument page") == ["7", "1"]
    assert values("path") == ["/orders", "/v2/orders"]
    # The body is compared line by line, as indented JSON.
    body = step(page, "tag").locator("table.diff")
    expect(body.locator("tr.same", has_text='"item": "lamp"')).to_be_visible()
    expect(body.locator("td.before").filter(has_text='"coupon": "none"')).to_be_visible()
    expect(body.locator("td.after").filter(has_text='"tenant": "north"')).to_be_visible()


def test_a_changed_text(page: Page, project: Project) -> None:
    """A body that is not JSON is compared line by line."""
    project.send("/orders", "PUT", "one lamp\nno coupon", content_type="text/plain")
    row(page, "PUT /orders").click()
    body = step(page, "tag").locator("table.diff")

    expect(body.locator("tr.same")).to_contain_text(["one lamp", "no coupon"])
    expect(body.locator("tr.added td.after").filter(has_text="for the north")).to_be_visible()


def test_what_a_plugin_logged(page: Page, project: Project) -> None:
    project.send("/orders")
    row(page, "/orders").click()

    expect(step(page, "tag").locator(".log-lines li")).to_have_text(["warning the tenant is north tag"])


def test_an_error_with_its_source(page: Page, project: Project) -> None:
    assert project.send("/broken") == 503
    row(page, "/broken").click()
    failure = step(page, "broken")

    expect(failure.locator("p.error")).to_have_text("KeyError: 'price'")
    frames = failure.get_by_role("figure")
    expect(frames).to_have_count(2)
    expect(frames.nth(0)).to_contain_text("broken.py:10 in on_request")
    expect(frames.nth(1).locator(".here")).to_contain_text('return order["price"]')
    expect(frames.nth(1)).to_contain_text("def price_of")
    failure.get_by_text("traceback").click()
    expect(failure.get_by_text('File "plugins/broken.py", line 5, in price_of')).to_be_visible()


def test_what_the_upstream_and_the_client_got(page: Page, project: Project) -> None:
    project.send("/orders?page=7", "POST", ORDER, x_debug="on", content_type="application/json")
    row(page, "/orders?page=7").click()
    request, response = section(page, "Request"), section(page, "Response")

    expect(request.locator(".lines")).to_contain_text("POST /v2/orders?page=1")
    expect(request.locator("tr.removed td.before").filter(has_text="x-debug: on")).to_be_visible()
    expect(request.locator("tr.added td.after").filter(has_text="x-tenant: north")).to_be_visible()
    expect(request.locator("pre.body").nth(1)).to_contain_text('"tenant": "north"')
    expect(response.locator(".lines")).to_have_text("200 → 200")
    expect(response.locator("pre.body").first).to_contain_text('"path": "/v2/orders"')


def test_views_of_a_body(page: Page, project: Project) -> None:
    project.send("/plain", "POST", '{"a":1}', content_type="application/json")
    row(page, "/plain").click()
    view = section(page, "Request").locator(".body-view").first

    expect(view.locator("pre")).to_have_text('{\n  "a": 1\n}')
    view.get_by_role("button", name="Text").click()
    expect(view.locator("pre")).to_have_text('{"a":1}')
    view.get_by_role("button", name="Hex").click()
    expect(view.locator("pre")).to_contain_text("00000000  7b 22 61 22 3a 31 7d")
    expect(view.get_by_role("button", name="Hex")).to_have_attribute("aria-pressed", "true")


def test_a_body_that_is_not_text(page: Page, project: Project) -> None:
    project.send("/plain", "POST", bytes(range(250, 256)), content_type="application/octet-stream")
    row(page, "/plain").click()
    view = section(page, "Request").locator(".body-view").first

    expect(view.locator("pre")).to_contain_text("00000000  fa fb fc fd fe ff")
    expect(view.get_by_role("button")).to_have_text(["Text", "Hex"])


def test_a_link_to_a_request(page: Page, project: Project) -> None:
    """The address of the page contains the selected request, so a reload shows it again."""
    project.send("/plain?linked")
    row(page, "/plain?linked").click()
    expect(page.get_by_role("heading", name="/plain?linked")).to_be_visible()
    page.reload()

    expect(page.get_by_role("heading", name="/plain?linked")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("region", name="Selected request")).to_be_hidden()


def test_secrets_are_not_in_the_page(page: Page, project: Project) -> None:
    project.send("/plain?token=correct-horse", authorization="Bearer correct-horse")
    row(page, "/plain").click()
    expect(section(page, "Request")).to_contain_text("Bearer redacted-")

    assert "correct-horse" not in page.content()


def test_a_request_that_arrives_while_the_list_is_loaded(page: Page, project: Project) -> None:
    """It is added to the list that does not contain it."""

    def slowly(route: Route) -> None:
        response = route.fetch()
        project.send("/plain?late")
        route.fulfill(response=response)

    page.route("**/api/flows", slowly, times=1)  # the browser may open the stream of events again, and then it loads the list again
    page.reload()

    expect(row(page, "/plain?late")).to_have_count(1)


def test_the_oldest_requests_leave_the_list(page: Page, project: Project) -> None:
    page.route("**/api/info", lambda route: route.fulfill(json={"capacity": 2, "gateway": project.dev.gateway}))
    with page.expect_response("**/api/flows"):  # otherwise it could contain the requests, and the server keeps more
        page.reload()
    for target in ("/plain?1", "/plain?2", "/plain?3"):
        project.send(target)

    expect(row(page, "/plain?3")).to_be_visible()
    expect(rows(page)).to_contain_text(["/plain?3", "/plain?2"])
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_role("button", name="Requests")).to_have_text("Requests 2")
