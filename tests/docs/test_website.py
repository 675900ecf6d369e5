# SPDX-License-Identifier: Apache-2.0
"""The source of the website: its links and its navigation. `make site` builds it."""

from pathlib import Path

import pytest

from tests.docs.pages import CHECKOUT, DOCS
from tests.docs.test_links import links
from tools.website import source


@pytest.mark.parametrize("page", source.pages(), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_stay_in_the_site(page: Path, tmp_path: Path) -> None:
    """Each link of a page of the site leads to a page or a picture of the site, or to another server."""
    source.write(tmp_path)
    copy = tmp_path / source.pages()[page]

    assert [link for link in links(copy) if not (copy.parent / link.partition("#")[0]).exists()] == []


def test_links_to_files_lead_to_github() -> None:
    """A link to a file that is not a page of the site leads to it on GitHub."""
    text, _ = source.converted(DOCS / "guides" / "cookbook.md")

    assert f"]({source.REPOSITORY}/blob/{source.REVISION}/examples/plugins/key_auth.py)" in text


def test_links_to_other_pages() -> None:
    """A link to a page outside of docs/ leads to its copy, and keeps the anchor."""
    text, _ = source.converted(DOCS / "internals" / "architecture.md")

    assert "](../contributing.md#run-tests)" in text


def test_code_is_not_changed() -> None:
    """What looks like a link in a block of code stays as it is."""
    page = DOCS / "guides" / "write.md"
    text, _ = source.converted(page)

    assert source.CODE.findall(text)[1:] == source.CODE.findall(page.read_text(encoding="utf-8"))[1:]


def test_navigation_has_each_page() -> None:
    """The start page links to each page of the site."""
    shown = {name for _, entries in source.navigation() for _, name in entries}

    assert sorted(set(source.pages().values()) - shown) == ["index.md"]


def test_navigation_is_in_the_order_of_reading() -> None:
    """A newcomer reads the guides before the reference, and the internals last."""
    captions = [caption for caption, _ in source.navigation()]

    assert captions == ["Start here", "Guides for plugin authors", "Guides for operators", "Reference", "Internals"]
