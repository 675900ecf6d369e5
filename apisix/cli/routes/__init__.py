# SPDX-License-Identifier: Apache-2.0
"""
Files of routes: `files.py` reads them, `search.py` finds configurations in them for `check`, and `text.py` adds a route for `new`.

May import: `http`, `plugin`, `gateway`.
"""
