# SPDX-License-Identifier: Apache-2.0
"""What is generated is up to date, and what pages and comments lead to is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from apisix.cli.settings_docs import config_file, page
from apisix.runner.plugin.chain import build_chain
from apisix.runner.plugin.registry import Registry
from apisix.runner.settings.table import SETTINGS, Settings, load
from apisix.testing import Client

CHECKOUT = Path(__file__).resolve().parent.parent


def test_settings_page() -> None:
    """docs/reference/settings.md says what the table says; `make docs` writes it."""
    assert page() == (CHECKOUT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")


def test_settings_page_is_complete() -> None:
    """Each setting, with each of its names, stands on the page."""
    text = page()

    assert [] == [row.key for row in SETTINGS if f"### `{row.key}`" not in text or not all(f"`{name}`" in text for name in row.variables)]


def test_config_file(tmp_path: Path) -> None:
    """The shipped configuration holds nothing but the defaults, whoever edits the table."""
    file = tmp_path / "config.yaml"
    file.write_text(config_file(), encoding="utf-8")

    assert Settings() == load(file, {}, {"APISIX_LISTEN_ADDRESS": Settings().socket_file})


def test_shipped_config_file_is_up_to_date() -> None:
    """apisix/config.yaml says what the table says; `make docs` writes it."""
    assert config_file() == (CHECKOUT / "apisix" / "config.yaml").read_text(encoding="utf-8")


def test_plugin_of_the_readme(tmp_path: Path) -> None:
    """The plugin that the README shows loads, takes a configuration, and passes the test that stands there."""
    plugin, test = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "key_auth.py").write_text(plugin, encoding="utf-8")
    registry = Registry.load([tmp_path])
    names: dict[str, Any] = {}
    exec(test, names)  # noqa: S102  # our own page
    with Client(registry=registry) as client:
        names["test_unknown_key"](client)

    assert [] == registry.problems
    assert None is build_chain(registry, [("key-auth", json.dumps({"keys": ["a"]}))], None, response=False).refusal


def texts() -> list[Path]:
    """The files that people read: code, tests and pages, with what has not been committed yet."""
    parts = ("apisix", "bench", "bin", "docs", "examples", "tests")
    files = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("*.py"), *(file for part in parts for file in (CHECKOUT / part).rglob("*"))]
    return sorted(file for file in files if file.suffix in (".py", ".pxd", ".md", ".c", ".h", ".fbs", ".yaml"))


PAGES = {
    "gateway contract": CHECKOUT / "docs" / "internals" / "gateway-contract.md",
    "design": CHECKOUT / "docs" / "internals" / "design.md",
}
# "gateway contract, 5.2 and 5.5", "design, 3c", also where a line of a comment breaks.
CITATION = re.compile(
    r"\b(gateway contract|design),?(?:\s|#)+((?:\d[\d.]*[a-z]?\b(?:, (?=\d)|(?:\s|#)+(?:and|to)(?:\s|#)+(?=\d))?)+)", re.IGNORECASE
)


def citations() -> list[tuple[str, str, str]]:
    """Return file, page and section of each citation."""
    found = []
    for file in texts():
        for cited, sections in CITATION.findall(file.read_text(encoding="utf-8")):
            where = str(file.relative_to(CHECKOUT))
            found += [(where, cited.lower(), section.rstrip(".")) for section in re.findall(r"\d[\d.]*[a-z]?", sections)]
    return found


def test_citations() -> None:
    """Each section of the gateway contract and of the design that is cited is a heading of its page."""
    headings = {
        page: {number.rstrip(".") for number in re.findall(r"^##+ (\d[\d.]*[a-z]?\.?) ", file.read_text(encoding="utf-8"), re.MULTILINE)}
        for page, file in PAGES.items()
    }
    cited = citations()

    assert [] == [(where, page, section) for where, page, section in cited if section not in headings[page]]
    assert {"gateway contract", "design"} == {page for _, page, _ in cited}
    assert ("apisix/runner/http/headers.py", "gateway contract", "5.2") in cited


def anchors(page: Path) -> set[str]:
    """Return what links can lead to within a page: its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [file for file in texts() if file.suffix == ".md"], ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links(page: Path) -> None:
    """What a page leads to is there: the file, and the heading where one is named."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        name, _, anchor = link.partition("#")
        file = page.parent / name if name else page
        if re.match(r"[a-z]+:", link):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)

    assert [] == broken
