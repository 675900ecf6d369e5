# SPDX-License-Identifier: Apache-2.0
"""
`python -m tests.browser.walk [--pictures DIRECTORY]`: try the inspector like somebody who is new to it, and print how long each step took.

The repository is cloned into a temporary directory, and the commands of the documentation are run there: `make dev`, `apisix-runner new`,
`curl`. Then a browser opens the address that was printed, the plugin is edited, and a test is saved and run. It needs the ports 9080
and 1980, Chromium, and Playwright (`pip install --group browser`).
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from tests.browser.conftest import BROWSERS
from tests.browser.project import rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REPOSITORY: Final = Path(__file__).parents[2]
INSTALLED_WITHIN_S: Final = 1200.0
WAIT_MS: Final = 30_000
BEFORE: Final = 'request.headers["x-hello"] = self.config.greeting'
AFTER: Final = 'request.headers["x-hello"] = self.config.greeting + ", " + request.remote_addr'
SIZES: Final = {"1280-light": (1280, 800), "375-dark": (375, 812)}


class Walk:
    """
    The steps so far.

    Attributes: took: the time of each step in seconds.
    """

    def __init__(self, clone: Path) -> None:
        self.clone = clone
        self.took: dict[str, float] = {}
        self.output: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step, and print how long it took."""
        began_s = time.monotonic()
        yield
        self.took[name] = time.monotonic() - began_s
        print(f"{self.took[name]:7.1f} s  {name}", flush=True)

    def run(self, *command: str) -> str:
        """Run a command in the clone as from a second terminal, and return its output."""
        return subprocess.run(command, cwd=self.clone, check=True, capture_output=True, text=True, timeout=WAIT_MS / 1000).stdout

    @contextmanager
    def dev(self) -> Iterator[None]:
        """Run `make dev`."""
        # Not the environment of the virtual environment that runs this.
        environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")}
        process = subprocess.Popen(
            ["make", "dev"],  # noqa: S607  # from PATH, as users start it
            cwd=self.clone,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        reader = Thread(target=self._read, args=(process,))
        reader.start()
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(WAIT_MS / 1000)
            reader.join()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.output += iter(process.stdout.readline, "")

    def printed(self, pattern: str, within_s: float = WAIT_MS / 1000) -> str:
        """Wait until `make dev` has printed something, and return the first group of the pattern."""
        deadline_s = time.monotonic() + within_s
        while (match := re.search(pattern, "".join(self.output))) is None:
            assert time.monotonic() < deadline_s, "".join(self.output)
            time.sleep(0.02)
        return match[1]


def walk(browser: "Browser", pictures: Path | None, repository: Path) -> None:
    """Do all steps."""
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT_MS)
    with tempfile.TemporaryDirectory(prefix="walk-") as directory:
        steps = Walk(Path(directory) / "clone")
        with steps.step("git clone"):
            subprocess.run(["git", "clone", "--quiet", repository, steps.clone], check=True)  # noqa: S607  # from PATH, as users start it
        with steps.dev():
            with steps.step("make dev, until it has installed everything and printed the address of the inspector"):
                address = steps.printed(r"inspector +(http://\S+)", INSTALLED_WITHIN_S)
            pages = [
                browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark" if "dark" in name else "light")
                for name, (width, height) in SIZES.items()
            ]
            page = pages[0]
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            for each in pages:
                each.goto(address)
            with steps.step("apisix-runner new hello, until the gateway has the plugin and the route"):
                steps.run(".venv/bin/apisix-runner", "new", "hello")
                steps.printed("(routes reloaded)")
                steps.printed("(plugins found)")
            found = [rows(each) for each in pages]
            with steps.step("curl, until the request is in the page"):
                assert '"x-hello": "hello"' in steps.run("curl", "-s", "http://127.0.0.1:9080/hello")
                expect(found[0]).to_contain_text("/hello")
            for each_row in found:
                each_row.click()
            with steps.step("the plugin is edited and saved, until the difference is in the page"):
                plugin = steps.clone / "plugins" / "hello.py"
                plugin.write_text(plugin.read_text(encoding="utf-8").replace(BEFORE, AFTER), encoding="utf-8")
                expect(page.get_by_role("region", name="Difference").locator("td.after").first).to_contain_text("hello, 127.0.0.1")
            expect(pages[1].get_by_role("region", name="Difference")).to_contain_text("hello, 127.0.0.1")
            picture(page, pictures, "difference-1280-light")
            with steps.step("Save as test, until the page shows the command"):
                pages[1].get_by_role("button", name="Save as test").click()
                expect(pages[1].locator(".saved")).to_contain_text("Run it with pytest tests/test_get_hello.py")
            picture(pages[1], pictures, "saved-test-375-dark")
            with steps.step("the test is run, and passes"):
                passed = steps.run(".venv/bin/pytest", "tests/test_get_hello.py")
                assert "1 passed" in passed or passed.strip().startswith("."), passed
            for each in pages:
                each.close()
        print(f"{sum(steps.took.values()):7.1f} s  in all")


def picture(page: "Page", pictures: Path | None, name: str) -> None:
    """Take a screenshot without the messages that disappear."""
    if pictures is not None:
        page.locator(".toast").evaluate_all("toasts => toasts.map((toast) => toast.remove())")
        page.screenshot(path=pictures / f"inspector-{name}.png")


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.walk", description="Try the inspector as its documentation describes it."
    )
    parser.add_argument("--pictures", type=Path, help="write screenshots into this directory")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="clone this one  [default: the one of this file]")
    options = parser.parse_args()
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        print(f"no browser: none of {', '.join(BROWSERS)} is in PATH", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        walk(browser, options.pictures, options.repository)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
