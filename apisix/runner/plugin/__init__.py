# SPDX-License-Identifier: Apache-2.0
"""
What a plugin is: how plugins are found, checked and configured, and how the plugins of a route become a chain.

`plugin.py` has `Plugin`, from which authors derive. `registry.py` loads all plugins: `sources.py` imports their modules
(`sibling_modules.py` those of a directory) and `check.py` checks their classes. `chain_builder.py` configures the plugins of a route:
`configuration.py` reads their values, and `validation_errors.py` describes invalid ones. `chain.py` is the result, `inline_hooks.py`
decides which hooks run inline, and `setup.py` runs `setup`. `forked.py` ends child processes of plugins. `base.py` and `core.py` are only
the import paths of the legacy APIs. `apis.py` is where the legacy APIs are registered. Start reading in `registry.py`.

May import: `errors`, `settings`, `logging`, `wire`, `http`.
"""
