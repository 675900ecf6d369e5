# SPDX-License-Identifier: Apache-2.0
"""
The configuration of Sphinx.

The pages are Markdown that GitHub shows, too, so there are no directives in them. The theme brings its own fonts, scripts and styles: the
site sends no request to another server.
"""

from typing import Any
from urllib.parse import urlsplit

from sphinx.application import Sphinx

import apisix
from tools.website import source

project = "apisix-python-plugin-runner"
author = copyright = "the Apache APISIX community"
release = version = apisix.__version__
language = "en"

extensions = ["myst_parser", "notfound.extension", "sphinx_sitemap"]
myst_heading_anchors = 6  # as GitHub makes them
myst_all_links_external = False
highlight_language = "none"  # commands and what they print

html_theme = "furo"
html_title = f"Python runner for APISIX {release}"
html_baseurl = "https://apache.github.io/apisix-python-plugin-runner/"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "../../apisix/gateway/inspector/static/icon.svg"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "source_repository": source.REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
    "announcement": (
        f'Version {release}: <a href="{html_baseurl}changelog.html">changelog</a>, '
        f'<a href="{source.REPOSITORY}/tree/{source.REVISION}">source</a>'
    ),
}
sitemap_url_scheme = "{link}"
sitemap_excludes = ["404.html", "search.html", "genindex.html"]
# Pages of errors are sent for any path, so their links begin with that of the site.
notfound_urls_prefix = urlsplit(html_baseurl).path
notfound_template = "page.html"
notfound_context = {
    "title": "Page not found",
    "body": (
        "<h1>Page not found</h1><p>This page does not exist, or has moved. "
        f'Begin at the <a href="{notfound_urls_prefix}index.html">start page</a>, or search.</p>'
    ),
}


def set_edit_links(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Let the links to view and to edit a page lead to its file in the repository: a few pages are not in docs/."""
    files = {name: file for file, name in source.pages().items()}
    file = files.get(f"{pagename}.md")
    if file is not None:
        path = file.relative_to(source.CHECKOUT).as_posix()
        context["theme_source_view_link"] = f"{source.REPOSITORY}/blob/main/{path}?plain=1"
        context["theme_source_edit_link"] = f"{source.REPOSITORY}/edit/main/{path}"


def setup(app: Sphinx) -> None:
    """Register the function that sets the edit links. Sphinx calls this."""
    app.connect("html-page-context", set_edit_links)
