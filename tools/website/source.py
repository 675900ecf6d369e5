# SPDX-License-Identifier: Apache-2.0
"""
The source of the website: a copy of the pages, in which each link leads to a page of the site or to GitHub.

The pages are written for GitHub, so their links are paths in the repository. The navigation is read from docs/index.md: its headings and
its links, in their order. A page that the index does not link to is not in the navigation, and Sphinx then fails.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apisix

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = CHECKOUT / "docs"
REPOSITORY: Final = "https://github.com/apache/apisix-python-plugin-runner"
REVISION: Final = "main" if ".dev" in apisix.__version__ else f"v{apisix.__version__}"
"""What links to files lead to: the tag of a release, or the main branch."""

OTHER_PAGES: Final = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "examples/README.md": "examples.md"}
"""Pages outside of docs/ that the site contains, and their names there."""

LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"(^```.*?^```$|^    [^\n]*$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def pages() -> dict[Path, str]:
    """Return the pages of the site, and the name of each in the source of the site."""
    return {
        **{page: page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))},
        **{CHECKOUT / page: name for page, name in OTHER_PAGES.items()},
    }


def write(target: Path) -> None:
    """Write the source of the site to a directory, which is deleted first."""
    shutil.rmtree(target, ignore_errors=True)
    for page, name in pages().items():
        text, images = converted(page)
        if name == "index.md":
            text += toctrees()
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        for image, image_name in images.items():
            (target / image_name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target / image_name)


def converted(page: Path) -> tuple[str, dict[Path, str]]:
    """
    Return the text of a page for the site, and its pictures with their names in the source of the site.

    Raises:
        FileNotFoundError: a link leads to a file that does not exist.
    """
    names = pages()
    here = os.path.dirname(names[page])
    images: dict[Path, str] = {}

    def replace(match: re.Match[str]) -> str:
        mark, text, link = match.groups()
        path, _, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", link):
            return match[0]
        file = (page.parent / path).resolve()
        if not file.exists():
            raise FileNotFoundError(f"{page.relative_to(CHECKOUT)} links to {link}, which does not exist")
        if mark:
            images[file] = f"images/{file.name}"
        name = images.get(file) or names.get(file)
        if name:
            path = os.path.relpath(name, here or ".")
        else:
            kind = "tree" if file.is_dir() else "blob"
            path = f"{REPOSITORY}/{kind}/{REVISION}/{file.relative_to(CHECKOUT).as_posix()}"
        return f"{mark}[{LINK.sub(replace, text)}]({path}{'#' if anchor else ''}{anchor})"

    # A link can begin before a piece of code and end after it, so the pieces are put back before links are replaced.
    codes: list[str] = []

    def hide(match: re.Match[str]) -> str:
        codes.append(match[0])
        return f"\0{len(codes) - 1}\0"

    text = LINK.sub(replace, CODE.sub(hide, page.read_text(encoding="utf-8")))
    return re.sub("\0(\\d+)\0", lambda match: codes[int(match[1])], text), images


def navigation() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Return the headings of the start page, each with the titles and the names of its pages in the source of the site."""
    names = pages()
    index = DOCS / "index.md"
    seen = {index}
    for section in re.split(r"^## ", index.read_text(encoding="utf-8"), flags=re.MULTILINE):
        entries = []
        for _, title, link in LINK.findall(section):
            page = (DOCS / link.partition("#")[0]).resolve()
            if page in names and page not in seen:
                seen.add(page)
                entries.append((title[0].upper() + title[1:], names[page]))
        if entries:
            yield section.partition("\n")[0].lstrip("# "), entries


def toctrees() -> str:
    """Return the navigation as directives for Sphinx."""
    blocks = []
    for caption, entries in navigation():
        lines = [f"{title} <{name.removesuffix('.md')}>" for title, name in entries]
        caption_lines = [] if caption.startswith("<!--") else [f":caption: {caption}"]
        blocks.append("\n".join(["```{toctree}", ":hidden:", *caption_lines, "", *lines, "```"]))
    return "\n" + "\n\n".join(blocks) + "\n"
