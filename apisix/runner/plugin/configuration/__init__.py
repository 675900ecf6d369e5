# SPDX-License-Identifier: Apache-2.0
"""
What a route configures: its plugins, and their values as typed objects.

`route_configuration.py` has what the gateway sends for a route: a key, and a name and a value for each plugin. `readers.py` turns such a
value into the configuration that the plugin gets; start reading there. `validation_errors.py` describes invalid values.

May import: the modules of `plugin`, `errors`, `http`.
"""
