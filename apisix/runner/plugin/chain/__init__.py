# SPDX-License-Identifier: Apache-2.0
"""
Make the plugins of a route configuration ready to run.

`builder.py` finds and configures the plugins; start reading there. `chain.py` has the result, a chain of steps, which `call` runs.
`setup.py` runs the `setup` of a plugin, and `background.py` its background task. `plain_hook.py` runs the hooks of plugins for other
processes if there are no others, as in tests.

May import: the modules of `plugin`, `plugin.configuration`, `plugin.loading`, `errors`, `http`, `logging`, `state`.
"""
