# SPDX-License-Identifier: Apache-2.0
"""What can be done with a request: send it again, run it again, copy it, and save it as a test."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed: `make test-browser` installs it")

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.project import BROKEN, GUARD, ORDER, TAG, WAIT_MS, Project, row, rows


@pytest.fixture
def page(project: Project, open_page: Open) -> Page:
    """Return the page of a project without requests."""
    return open_page(project)


def button(page: Page, name: str) -> None:
    """Press a button of the selected request."""
    page.get_by_role("region", name="Selected request").get_by_role("button", name=name, exact=True).click()


def test_sending_again(page: Page, project: Project) -> None:
    project.send("/orders?page=7", "POST", ORDER, content_type="application/json")
    row(page, "/orders").click()
    button(page, "Send again")

    expect(page.get_by_text("The request was sent again.")).to_be_visible()
    expect(rows(page)).to_have_count(2)
    expect(rows(page)).to_contain_text(["POST /orders?page=7", "POST /orders?page=7"])
    expect(rows(page).first).to_have_attribute("aria-selected", "true")


def test_sending_an_edited_request(page: Page, project: Project) -> None:
    project.send("/plain", x_debug="on", authorization="Bearer correct-horse")
    row(page, "/plain").click()
    button(page, "Edit and send")
    page.get_by_label("Method").fill("PUT")
    page.get_by_label("Path and query").fill("/plain/edited?a=1")
    headers = page.get_by_label("Headers")
    headers.fill(headers.input_value() + "\nX-Added: yes")
    page.get_by_label("Body").fill("a body")
    button(page, "Send")

    expect(page.get_by_role("heading", name="PUT /plain/edited?a=1")).to_be_visible()
    seen = page.locator("details.section").last.locator("pre.body")
    expect(seen).to_contain_text('"X-Added": "yes"')
    expect(seen).to_contain_text('"body": "a body"')
    assert "correct-horse" not in page.content()


def test_running_again_after_a_plugin_was_saved(own_project: Project, open_page: Open) -> None:
    """The selected request is run again by itself, and the difference is shown."""
    own_project.send("/orders")
    page = open_page(own_project)
    row(page, "/orders").click()
    button(page, "Run again")
    difference = page.get_by_role("region", name="Difference")
    expect(difference).to_contain_text("no difference")

    own_project.save("plugins/tag.py", TAG.replace('request.args["page"] = "1"', 'request.args["page"] = "first"'))
    expect(difference).to_contain_text("different")
    expect(difference.locator("td.before").filter(has_text="page=1")).to_be_visible()
    expect(difference.locator("td.after").filter(has_text="page=first")).to_be_visible()
    # Only what differs is shown: of the body that the echo upstream sent, nothing, because it is the one from before.
    expect(difference).not_to_contain_text("x-tenant")
    expect(rows(page)).to_have_count(1)


@pytest.mark.parametrize(
    ("target", "method", "body", "assertion"),
    [
        ("/orders?page=7", "POST", ORDER, "assert result.upstream.headers.getall('x-tenant') == ['north']"),
        ("/guarded", "GET", None, "assert result.reply.status == 401"),
        ("/broken", "GET", None, "assert result.effects[0].error is not None  # KeyError: 'price'"),
    ],
    ids=["changed", "stopped", "failed"],
)
def test_saving_as_a_test(own_project: Project, open_page: Open, target: str, method: str, body: str | None, assertion: str) -> None:
    """The file is written, the page shows how to run it, that command passes, and it fails if the plugin has another result."""
    own_project.send(target, method, body, content_type="application/json")
    page = open_page(own_project)
    row(page, target).click()
    button(page, "Save as test")
    name = f"tests/test_{method.lower()}_{target.partition('?')[0].strip('/')}.py"
    note = page.get_by_role("status").filter(has_text=f"Saved as {name}. Run it with pytest {name}")
    expect(note).to_be_visible()
    expect(note).not_to_contain_text("another result")
    note.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")

    saved = (own_project.directory / name).read_text(encoding="utf-8")
    assert assertion in saved
    assert run(command, own_project) == 0
    own_project.save(
        "plugins/tag.py",
        TAG.replace('= self.config.tenant\n        request.headers["x-scheme"]', '= "south"\n        request.headers["x-scheme"]'),
    )
    own_project.save("plugins/guard.py", GUARD.replace("401", "403"))
    own_project.save("plugins/broken.py", BROKEN.replace('order["price"]', 'order["amount"]'))
    assert run(command, own_project) == 1


def run(command: str, project: Project) -> int:
    """Run a command that begins with `pytest` in the directory of the project, and return its exit status."""
    arguments = [sys.executable, "-m", *shlex.split(command), "-p", "no:cacheprovider"]
    done = subprocess.run(arguments, cwd=project.directory, capture_output=True, text=True, timeout=WAIT_MS / 1000, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode


def test_a_test_that_is_saved_after_a_plugin_was_edited(own_project: Project, open_page: Open) -> None:
    """The test asserts the result of the plugins as they are now, so it passes."""
    own_project.send("/orders")
    page = open_page(own_project)
    row(page, "/orders").click()
    own_project.save("plugins/tag.py", TAG.replace('request.args["page"] = "1"', 'request.args["page"] = "first"'))
    expect(page.get_by_role("region", name="Difference")).to_contain_text("different")
    button(page, "Save as test")
    note = page.get_by_role("status").filter(has_text="Saved as tests/test_get_orders.py.")

    expect(note).to_contain_text("The plugins have another result now than when the request arrived. The test asserts the result of now.")
    assert run("pytest tests/test_get_orders.py", own_project) == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/plain?a=[1]&b={x}", None),
        ("POST", "/plain/'quoted'", "@it's a $HOME\nbody"),
        ("PUT", "/plain", '{"a": 1}'),
        ("DELETE", "/plain", None),
    ],
)
def test_copying_as_curl(page: Page, project: Project, method: str, target: str, body: str | None) -> None:
    """The command sends the same request."""
    project.send(target, method, body, x_quoted="it's $HOME", content_type="text/x-test")
    rows(page).click()
    button(page, "Copy as curl")
    expect(page.get_by_text("Copied.")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    shell = ["/bin/sh", "-c", command]
    done = subprocess.run(shell, capture_output=True, check=True, timeout=WAIT_MS / 1000, stdin=subprocess.DEVNULL)

    expect(rows(page)).to_have_count(2)
    sent = json.loads(done.stdout[done.stdout.index(b"{") :])
    original = page.evaluate("""
        async () => {
          const flows = await (await fetch("/api/flows")).json();
          return JSON.parse((await (await fetch(`/api/flows/${flows[0].id}`)).json()).response.body.text);
        }
    """)
    assert {**sent, "headers": without_connection(sent)} == {**original, "headers": without_connection(original)}


def without_connection(seen: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the headers that an upstream got, without those that only concern the connection."""
    return {name.lower(): value for name, value in seen["headers"].items() if name.lower() not in ("connection", "host")}
