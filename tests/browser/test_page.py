# SPDX-License-Identifier: Apache-2.0
"""The page as a whole: keys, accessibility, the log, and pages of other origins."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Open
from tests.browser.project import Project, row, rows

CONTROLS = {"button", "textbox", "searchbox", "combobox", "listbox", "checkbox", "spinbutton", "link", "option", "dialog"}

# The contrast of each text with its background, as WCAG 2 defines it.
LOW_CONTRAST = """
() => {
  const parse = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (color) => {
    const linear = (part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = color.slice(0, 3).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!hasText || !element.checkVisibility() || element.matches(":disabled, option")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(background(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push(`${element.className || element.tagName}: ${element.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return found;
}
"""


@pytest.fixture
def page(project: Project, open_page: Open) -> Page:
    """Return the page of a project with three requests."""
    for target in ("/broken", "/guarded", "/orders"):
        project.send(target)
    page = open_page(project)
    expect(rows(page)).to_have_count(3)
    return page


def test_keys(page: Page) -> None:
    page.keyboard.press("j")
    expect(page.locator(".detail h2")).to_contain_text("/orders")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".detail h2")).to_contain_text("/guarded")
    page.keyboard.press("k")
    expect(page.locator(".detail h2")).to_contain_text("/orders")
    page.keyboard.press("e")
    expect(page.get_by_label("Path and query")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Path and query")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Selected request")).to_be_hidden()

    page.keyboard.press("/")
    expect(page.get_by_label("Filter by text")).to_be_focused()
    page.keyboard.type("broken")
    expect(rows(page)).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_label("Filter by text")).not_to_be_focused()
    expect(page.get_by_label("Filter by text")).to_have_value("broken")
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Continue")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_keys_of_the_selected_request(page: Page) -> None:
    """Each action has a key."""
    page.keyboard.press("j")
    expect(page.locator(".detail h2")).to_contain_text("/orders")
    page.keyboard.press("r")
    expect(page.get_by_role("region", name="Difference")).to_contain_text("no difference")
    page.keyboard.press("t")
    expect(page.get_by_role("status").filter(has_text="Saved as tests/test_get_orders.py")).to_be_visible()
    page.keyboard.press("c")
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert "/orders" in page.evaluate("navigator.clipboard.readText()")
    page.keyboard.press("s")
    expect(rows(page)).to_have_count(4)


def test_the_order_of_the_focus(page: Page) -> None:
    name = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.firstChild.textContent.trim()"
    order = []
    for _ in range(11):
        page.keyboard.press("Tab")
        order.append(page.evaluate(name))

    assert order == [
        "Requests",
        "Routes",
        "Log",
        "Keys",
        "Filter by text",
        "Filter by route",
        "Filter by plugin",
        "Filter by outcome",
        "Pause",
        "Clear",
        "Requests, newest first",
    ]


def test_the_list_reports_the_selected_row(page: Page) -> None:
    page.keyboard.press("j")
    expect(page.locator(".detail h2")).to_contain_text("/orders")
    active = page.get_by_role("listbox", name="Requests, newest first").get_attribute("aria-activedescendant")

    assert active == rows(page).first.get_attribute("id")


@pytest.mark.parametrize("view", ["list", "detail", "edit", "keys", "log"])
def test_each_control_has_a_name(page: Page, view: str) -> None:
    if view in ("detail", "edit"):
        row(page, "/broken").click()
        expect(page.locator(".detail h2")).to_contain_text("/broken")
    if view == "edit":
        page.keyboard.press("e")
    if view == "keys":
        page.get_by_role("button", name="Keys").click()
    if view == "log":
        page.get_by_role("button", name="Log").click()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes: list[tuple[str, str]] = [(value(node, "role"), value(node, "name")) for node in tree if not node["ignored"]]
    controls = [node for node in nodes if node[0] in CONTROLS]

    assert len(controls) > 3 or view == "keys"
    assert [role for role, name in controls if not name.strip()] == []


def value(node: dict[str, Any], name: str) -> str:
    """Return a property of a node of the accessibility tree."""
    return str(node.get(name, {}).get("value", ""))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(project: Project, open_page: Open, scheme: str) -> None:
    project.send("/broken")
    project.send("/guarded")
    project.send("/orders", x_debug="1")
    page = open_page(project, color_scheme=scheme)
    for target in ("/broken", "/guarded", "/orders"):
        row(page, target).click()
        expect(page.locator(".detail h2")).to_contain_text(target)
        assert page.evaluate(LOW_CONTRAST) == []


def test_contrast_is_measured(page: Page) -> None:
    """Text that is hard to read is found."""
    page.evaluate("document.querySelector('h1').style.color = '#aaa'")

    assert len(page.evaluate(LOW_CONTRAST)) == 1


def test_reduced_motion(project: Project, open_page: Open) -> None:
    page = open_page(project, reduced_motion="reduce")

    moving = "[...document.querySelectorAll('*')].filter((element) => getComputedStyle(element).transitionDuration !== '0s').length"
    assert page.evaluate(moving) == 0


def test_load_errors_and_reloads_as_they_happen(own_project: Project, open_page: Open) -> None:
    page = open_page(own_project)
    page.get_by_role("button", name="Log").click()
    log = page.get_by_role("main", name="Log")
    own_project.save("plugins/late.py", "import nowhere_to_be_found\n")
    expect(log.locator(".entry.error").first).to_contain_text("nowhere_to_be_found")

    own_project.save("plugins/late.py", "from apisix import Plugin\n\nclass Late(Plugin):\n    def on_request(self, request): ...\n")
    expect(log.get_by_text("the plugins were reloaded").first).to_be_visible()
    own_project.save("apisix.yaml", "routes: []\n")
    expect(log.locator(".entry.problem")).to_contain_text("does not end with the line #END")


def test_a_syntax_error_is_shown_until_it_is_corrected(own_project: Project, open_page: Open) -> None:
    """The author looks at requests, so it is above every view, with the file and the line. A page that is opened later shows it too."""
    page = open_page(own_project, 375, 700)
    banner = page.get_by_role("alert")
    expect(banner).to_be_hidden()
    own_project.save("plugins/late.py", "from apisix import Plugin\n\nclass Late(Plugin:\n")
    expect(banner).to_contain_text("A plugin can't be loaded:")
    expect(banner.locator("code")).to_contain_text("late.py:3")
    expect(banner).to_contain_text("it can't be compiled: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.reload()
    expect(banner).to_contain_text("late.py:3")

    own_project.save("plugins/late.py", "from apisix import Plugin\n\nclass Late(Plugin):\n    def on_request(self, request): ...\n")
    expect(banner).to_be_hidden()


HOSTILE = """
<!doctype html><title>hostile</title><iframe name="frame"></iframe>
<script>
const results = {};
const settle = (promise) => promise.then(() => "reached", () => "refused");
const element = (tag, url) => settle(new Promise((done, failed) => {
  const created = document.createElement(tag);
  created.onload = done;
  created.onerror = failed;
  created.src = url;
  document.body.append(created);
}));
async function attack(inspector, id) {
  const json = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
  results.fetch = await settle(fetch(inspector + "/api/flows"));
  results.opaque = await fetch(inspector + "/api/flows", { mode: "no-cors" }).then((response) => response.text(), () => "");
  results.post = await settle(fetch(inspector + "/api/flows/" + id + "/send", json));
  const simple = { method: "POST", mode: "no-cors", body: "{}" };
  results.text = await fetch(inspector + "/api/flows/" + id + "/send", simple).then((response) => response.text(), () => "");
  results.delete = await settle(fetch(inspector + "/api/flows", { method: "DELETE" }));
  results.image = await element("img", inspector + "/icon.svg");
  results.script = await element("script", inspector + "/app.js");
  results.events = await settle(new Promise((done, failed) => {
    const source = new EventSource(inspector + "/api/events");
    source.onopen = done;
    source.onerror = () => { source.close(); failed(); };
  }));
  results.socket = await settle(new Promise((done, failed) => {
    const socket = new WebSocket(inspector.replace("http", "ws") + "/api/events");
    socket.onopen = done;
    socket.onerror = failed;
  }));
  await new Promise((done) => {
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", enctype: "text/plain", target: "frame", action: inspector + "/api/flows/" + id + "/send" });
    document.body.append(form);
    document.querySelector("iframe").onload = done;
    form.submit();
  });
  return results;
}
</script>
"""


@contextmanager
def hostile_site() -> Iterator[int]:
    """Serve a page that tries to reach the inspector, and return the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(HOSTILE.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_a_page_of_another_origin(project: Project, open_page: Open, browser: Browser, host: str) -> None:
    """A page on another port of the same host, or on another host, can neither read anything nor send a request again."""
    project.send("/plain")
    page = open_page(project)
    expect(rows(page)).to_have_count(1)
    id = rows(page).get_attribute("id")
    with hostile_site() as port, browser.new_context() as context:
        hostile = context.new_page()
        hostile.goto(f"http://{host}:{port}/")
        results = hostile.evaluate("([inspector, id]) => attack(inspector, id)", [project.inspector, str(id).removeprefix("flow-")])

    assert results == {
        **dict.fromkeys(("fetch", "post", "delete", "image", "script", "events", "socket"), "refused"),
        "opaque": "",
        "text": "",
    }
    page.reload()
    expect(rows(page)).to_have_count(1)


def test_another_name_for_the_address(project: Project, browser: Browser) -> None:
    """DNS rebinding: a host of another site has the address of the inspector."""
    with browser.new_context() as context:
        page = context.new_page()
        response = page.goto(project.inspector.replace("127.0.0.1", "evil.example") + "/api/flows")

        assert response is not None
        assert response.status == 403
