# SPDX-License-Identifier: Apache-2.0
"""
What a plugin is: the base class, the plugin APIs, and how plugins are loaded, configured and chained.

`plugin.py` has `Plugin`, from which authors derive. `apis.py` is where plugin APIs are registered: `Plugin`'s own, and those of the legacy
APIs. `plugin_type.py` describes a plugin that was loaded, `naming.py` has the rules for its name, and `forked.py` ends
child processes of plugins. There are three sub-packages:

1. `loading` imports the modules of plugins when the runner starts, and checks their classes. Start reading in `loading/registry.py`.
2. `configuration` contains what the gateway sends for a route, and reads the values of its plugins.
3. `chain` makes the plugins of a route configuration ready to run.

`base.py` and `core.py` are only the import paths of the legacy APIs.

May import: `errors`, `settings`, `logging`, `wire`, `http`, `state`. The sub-packages may import the modules beside them, `loading` may
import `configuration`, and `chain` may import both.
"""
