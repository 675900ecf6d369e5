# SPDX-License-Identifier: Apache-2.0
"""
The legacy APIs: `Base` of release 0.1 and `PluginBase` of release 0.2, with their requests, responses and dicts.

`base.py` and `plugin_base.py` have the classes from which plugins derive. `base_adapter.py` and `plugin_base_adapter.py` run such plugins
over the runner's own `Request` and `Response`; start reading there. `apis.py` says how they are checked and configured. Importing this
package registers both APIs, and importing one of the base classes imports this package, so no plugin can be loaded without its API.

May import: `errors`, `logging`, `wire`, `http`, `plugin`.
"""

from apisix.runner.legacy.apis import BASE, PLUGIN_BASE
from apisix.runner.plugin.apis import register

register(BASE)
register(PLUGIN_BASE)
