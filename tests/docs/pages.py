# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation, and their blocks of code."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = CHECKOUT / "docs"


def pages() -> list[Path]:
    """Return every page that people read: those under docs/, and those beside the code."""
    parts = ("docs", "examples", "tests", "deploy", ".github")
    return sorted([*CHECKOUT.glob("*.md"), *(page for part in parts for page in (CHECKOUT / part).rglob("*.md"))])


def text_of(*path: str) -> str:
    """Return the text of a page under docs/."""
    return DOCS.joinpath(*path).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """
    A block of code.

    Attributes:
        place: what its first line names: the file that it would be, or the file from which it is taken.
        is_excerpt: true if the first line begins with `# from`.
        line: the line of the page on which the code begins.
    """

    page: Path
    language: str
    place: str
    is_excerpt: bool
    code: str
    line: int

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def blocks(language: str, page: Path) -> list[Block]:
    """Return the blocks of a page that are in a language."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        comment = re.match(r"# (from )?(\S+/\S+)\n", match[1])
        place, is_excerpt = (comment[2], bool(comment[1])) if comment else ("", False)
        found.append(Block(page, language, place, is_excerpt, match[1], text.count("\n", 0, match.start()) + 2))
    return found
