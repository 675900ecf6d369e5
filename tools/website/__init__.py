# SPDX-License-Identifier: Apache-2.0
"""
Build the website of the documentation from docs/: `python -m tools.website`, or `make site`.

`source` copies the pages and changes the links that lead out of docs/. Sphinx converts the copy to HTML, as `conf` configures it.
"""
