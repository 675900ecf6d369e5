# SPDX-License-Identifier: Apache-2.0
"""The page about performance shows what was measured."""

from bench.report import PAGE, PARTS, filled_in, results


def test_page_is_up_to_date() -> None:
    """The tables of docs/internals/performance.md are those that the results files give: `make docs` writes them."""
    page = PAGE.read_text(encoding="utf-8")

    assert filled_in(page, results()) == page


def test_every_part_has_its_place() -> None:
    """Each part of the benchmark, and the list of targets, is on the page."""
    page = PAGE.read_text(encoding="utf-8")

    assert [name for name in ("targets", *PARTS) if f"<!-- bench: {name} -->\n" not in page] == []
