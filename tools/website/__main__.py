# SPDX-License-Identifier: Apache-2.0
"""Build the site into build/site/html: `python -m tools.website`. Warnings are errors."""

import sys

from sphinx.cmd.build import build_main

from tools.website import source

if __name__ == "__main__":
    site = source.CHECKOUT / "build" / "site"
    source.write(site / "source")
    html = site / "html"
    configuration = source.CHECKOUT / "tools" / "website"
    options = ["--builder", "html", "--fail-on-warning", "--keep-going", "--fresh-env", "--quiet", "--conf-dir", str(configuration)]
    status = build_main([*options, "--doctree-dir", str(site / "doctrees"), str(site / "source"), str(html)])
    if status == 0:
        print(f"The site is in {html.relative_to(source.CHECKOUT)}. To read it: python -m http.server --directory {html}")
    sys.exit(status)
