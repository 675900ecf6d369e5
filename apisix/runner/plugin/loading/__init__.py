# SPDX-License-Identifier: Apache-2.0
"""
Find, import and check plugins when the runner starts.

`registry.py` has the plugins that routes may name; start reading there. `sources.py` imports their modules, with `sibling_modules.py` for
the files of a directory. `check.py` checks their classes, and `inline_hooks.py` finds out which of their hooks run inline.

May import: the modules of `plugin`, and `plugin.configuration`.
"""
