# SPDX-License-Identifier: Apache-2.0
"""The website of the documentation in a browser: what it looks like, the search, and that it is complete without other servers."""

import functools
import http.server
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage
from tests.docs.pages import CHECKOUT
from tools.website import source

pytestmark = pytest.mark.slow
VIEWS: Final = {"start": "index", "api": "reference/api", "guide": "guides/write"}
HEIGHTS: Final = {1280: 800, 375: 812}
NAMES: Final = sorted(name.removesuffix(".md") for name in source.pages().values())
BUILD_LIMIT_S: Final = 300.0


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    """Sends files without writing a log."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build the site, serve it on the loopback interface, and return the address."""
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed: `make test-browser` and `make site` install it")
    directory = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "tools.website", directory], cwd=CHECKOUT, check=True, timeout=BUILD_LIMIT_S)
    handler = functools.partial(SilentHandler, directory=directory / "html")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def too_wide(page: Page) -> list[str]:
    """Return the elements that reach over the right edge of the window. Blocks of code and tables scroll."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("article *")]
            .filter((each) => !each.closest("pre, .table-wrapper") && each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => `${each.tagName} ${each.textContent.slice(0, 60)}`)"""
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", HEIGHTS)
@pytest.mark.parametrize("view", VIEWS)
def test_layout(site: str, new_page: NewPage, pictures: Path, view: str, width: int, scheme: str) -> None:
    """The theme follows the colour scheme of the browser, and the page fits. The screenshots are those of `make site-pictures`."""
    page = new_page(site, width, HEIGHTS[width], color_scheme=scheme)
    page.goto(f"{site}/{VIEWS[view]}.html")
    page.screenshot(path=pictures / f"website-{view}-{width}-{scheme}.png")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 20, 22)"}[scheme]
    )


@pytest.mark.parametrize("width", HEIGHTS)
def test_each_page_fits(site: str, new_page: NewPage, width: int) -> None:
    """Nothing of any page is outside of the window, on a telephone neither."""
    page = new_page(site, width, HEIGHTS[width])
    problems = {}
    for name in NAMES:
        page.goto(f"{site}/{name}.html")
        if page.evaluate("document.documentElement.scrollWidth") > width or too_wide(page):
            problems[name] = too_wide(page)

    assert problems == {}


def test_titles(site: str, new_page: NewPage) -> None:
    """Each page has a title of its own."""
    page = new_page(site, 1280, 800)
    titles = []
    for name in NAMES:
        page.goto(f"{site}/{name}.html")
        titles.append(page.title())

    assert sorted(set(titles)) == sorted(titles)
    assert [title for title in titles if title.startswith("<") or not title.strip()] == []


def test_navigation(site: str, new_page: NewPage) -> None:
    """The navigation has the pages in the order of the start page."""
    page = new_page(site, 1280, 800)
    page.goto(f"{site}/index.html")
    links = page.locator(".sidebar-tree a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")

    assert links == [name.replace(".md", ".html") for _, entries in source.navigation() for _, name in entries]


def test_navigation_on_a_telephone(site: str, new_page: NewPage) -> None:
    """On a telephone, a button shows the navigation."""
    page = new_page(site, 375, 812, reduced_motion="reduce")
    page.goto(f"{site}/reference/settings.html")
    link = page.locator(".sidebar-tree").get_by_role("link", name="Write plugins")
    expect(link).not_to_be_in_viewport()
    page.locator("label.nav-overlay-icon").click()
    expect(link).to_be_in_viewport()
    link.click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("Write plugins")


@pytest.mark.parametrize(
    ("words", "title"), [("rate limit", "Cookbook"), ("metadata", "Share data between phases"), ("max_in_flight", "Settings")]
)
def test_search(site: str, new_page: NewPage, words: str, title: str) -> None:
    """The search needs no server, and finds the page that explains the words."""
    page = new_page(site, 1280, 800)
    page.goto(f"{site}/index.html")
    page.get_by_role("textbox", name="Search").fill(words)
    page.keyboard.press("Enter")

    expect(page.locator("#search-results").get_by_role("link", name=title, exact=True)).to_be_visible()
