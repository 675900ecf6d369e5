# SPDX-License-Identifier: Apache-2.0
"""
The legacy APIs: `Base` of release 0.1 and `PluginBase` of release 0.2, with their requests, responses and dicts.

`base.py` and `plugin_base.py` have the classes from which plugins derive. `base_adapter.py` and `plugin_base_adapter.py` run such plugins
on the runner's own `Request`; start reading there. `plugin_base_request.py` and `plugin_base_response.py` are what a `PluginBase` gets, and
`base_adapter.py` has the same for `Base`. `decision.py` keeps what a call of a `Base` decides. `edits.py`, `header_dict.py` and `values.py`
are used by both. `apis.py` decides how such plugins are checked and configured.

Importing this package registers both APIs. Importing one of the base classes imports this package, so no plugin can be loaded without its
API.

May import: `errors`, `logging`, `wire`, `http`, `plugin`.
"""

from apisix.runner.legacy.apis import BASE, PLUGIN_BASE
from apisix.runner.plugin.apis import register

register(BASE)
register(PLUGIN_BASE)
