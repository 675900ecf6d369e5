# SPDX-License-Identifier: Apache-2.0
"""A real browser, and for the page of the inspector a real `apisix-runner dev`."""

import contextlib
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.project import WAIT_MS, Project, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this directory."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """
    Start the browser once for a module, because the event loop of Playwright runs until the end, and tests of asyncio need their own
    event loop.
    """
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is in PATH. `make test-browser` installs Debian's chromium if it can")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, and the only pages that are opened are our own.
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Start `dev` once for the tests of a module that change neither files nor routes."""
    with started(tmp_path_factory.mktemp("project")) as project:
        yield project


@pytest.fixture
def project(shared_project: Project) -> Project:
    """Return the shared project without requests."""
    request = urllib.request.Request(f"{shared_project.inspector}/api/flows", method="DELETE")  # noqa: S310
    with urllib.request.urlopen(request, timeout=WAIT_MS / 1000):  # noqa: S310
        pass
    return shared_project


@pytest.fixture
def own_project(tmp_path: Path) -> Iterator[Project]:
    """Start `dev` for a test that changes files or routes."""
    with started(tmp_path) as project:
        yield project


@dataclass
class Watched:
    """What a page did: its requests to other hosts, and its error messages."""

    origin: str
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


NewPage = Callable[..., "Page"]
Open = Callable[..., "Page"]


@pytest.fixture
def new_page(browser: "Browser") -> Iterator[NewPage]:
    """
    Return a function that opens an empty page for a server.

    At the end of the test, each page must have sent no request to another server and have logged no error.
    """
    watched: list[Watched] = []
    with contextlib.ExitStack() as stack:

        def new_page(origin: str, width: int, height: int, **options: Any) -> "Page":
            size: ViewportSize = {"width": width, "height": height}
            context = browser.new_context(viewport=size, locale="en-GB", timezone_id="UTC", **options)
            stack.callback(context.close)
            context.set_default_timeout(WAIT_MS)
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
            page = context.new_page()
            seen = Watched(origin)
            watched.append(seen)
            page.on("request", lambda request: None if request.url.startswith(seen.origin) else seen.elsewhere.append(request.url))
            page.on("pageerror", lambda error: seen.errors.append(str(error)))
            page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
            return page

        yield new_page
    for seen in watched:
        assert (seen.elsewhere, seen.errors) == ([], [])


@pytest.fixture
def open_page(new_page: NewPage) -> Open:
    """Return a function that opens the page of a project and waits until it is connected."""

    def open_page(project: Project, width: int = 1280, height: int = 800, **options: Any) -> "Page":
        from playwright.sync_api import expect

        page = new_page(project.inspector, width, height, **options)
        page.goto(project.inspector)
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        return page

    return open_page


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return the directory for screenshots: the one that the environment variable PICTURES names, or a temporary one."""
    directory = Path(os.environ.get("PICTURES", tmp_path))
    directory.mkdir(parents=True, exist_ok=True)
    return directory
