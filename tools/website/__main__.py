# SPDX-License-Identifier: Apache-2.0
"""Build the site into DIRECTORY/html: `python -m tools.website [DIRECTORY]`, build/site by default. Warnings are errors."""

import os
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from tools.website import source

if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else source.CHECKOUT / "build" / "site"
    source.write(site / "source")
    html = site / "html"
    configuration = source.CHECKOUT / "tools" / "website"
    options = ["--builder", "html", "--fail-on-warning", "--keep-going", "--fresh-env", "--quiet", "--conf-dir", str(configuration)]
    status = build_main([*options, "--doctree-dir", str(site / "doctrees"), str(site / "source"), str(html)])
    if status == 0:
        print(f"The site is in {html}. To read it: python -m http.server --bind 127.0.0.1 --directory {os.path.relpath(html)}")
    sys.exit(status)
