# SPDX-License-Identifier: Apache-2.0
"""Links and citations lead to pages, headings and files that exist."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import CHECKOUT, DOCS, pages

INTERNALS = DOCS / "internals"
CITED_PAGES = {"gateway contract": INTERNALS / "gateway-contract.md", "design": INTERNALS / "design.md"}
# "gateway contract, 5.2 and 5.5", "design, 3c"; a comment can break between any two words.
CITATION = re.compile(
    r"\b(gateway contract|design),?(?:\s|#)+((?:\d[\d.]*[a-z]?\b(?:, (?=\d)|(?:\s|#)+(?:and|to)(?:\s|#)+(?=\d))?)+)", re.IGNORECASE
)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its headings, as GitHub converts them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links to files of this repository."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links(page: Path) -> None:
    """Each link leads to a file, and to a heading if the link names one."""
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)

    assert broken == []


def test_every_page_is_in_the_index() -> None:
    """The index links to each page under docs/."""
    index = DOCS / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}

    assert [str(page.relative_to(DOCS)) for page in sorted(DOCS.rglob("*.md")) if page != index and page not in linked] == []


def texts() -> list[Path]:
    """Return the files that can name a page or a section: code, tests and pages."""
    parts = ("apisix", "bench", "bin", "docs", "examples", "tests")
    files = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("*.py"), *(file for part in parts for file in (CHECKOUT / part).rglob("*"))]
    return sorted(file for file in files if file.suffix in (".py", ".pxd", ".md", ".c", ".h", ".fbs", ".yaml"))


def citations() -> list[tuple[str, str, str]]:
    """Return the file, page and section of each citation."""
    found = []
    for file in texts():
        for cited, sections in CITATION.findall(file.read_text(encoding="utf-8")):
            where = str(file.relative_to(CHECKOUT))
            found += [(where, cited.lower(), section.rstrip(".")) for section in re.findall(r"\d[\d.]*[a-z]?", sections)]
    return found


def test_citations() -> None:
    """Each cited section of the gateway contract and of the design is a heading of that page."""
    headings = {
        page: {number.rstrip(".") for number in re.findall(r"^##+ (\d[\d.]*[a-z]?\.?) ", file.read_text(encoding="utf-8"), re.MULTILINE)}
        for page, file in CITED_PAGES.items()
    }
    cited = citations()

    assert [(where, page, section) for where, page, section in cited if section not in headings[page]] == []
    assert {page for _, page, _ in cited} == {"gateway contract", "design"}


def test_pages_that_code_names() -> None:
    """Each page that a comment, a docstring or a message names as `docs/...` exists."""
    named = {
        (str(file.relative_to(CHECKOUT)), name) for file in texts() for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text("utf-8"))
    }

    assert sorted((file, name) for file, name in named if not (CHECKOUT / name).exists()) == []
    assert len(named) > 10


@pytest.mark.parametrize("page", [*sorted(INTERNALS.glob("*.md")), CHECKOUT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_that_pages_for_contributors_name(page: Path) -> None:
    """Each file or directory that a page names as `package/module.py` or `package/` exists."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`([\w/]+/(?:\w+\.(?:py|pxd|c|h|fbs|md))?)(?:::\w+)?`", text))
    roots = (CHECKOUT, CHECKOUT / "apisix", CHECKOUT / "apisix" / "runner", CHECKOUT / "tests" / "gateway")

    assert sorted(name for name in named if not any((root / name).exists() for root in roots)) == []
    assert named or page.name != "architecture.md"
