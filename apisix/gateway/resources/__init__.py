# SPDX-License-Identifier: Apache-2.0
"""
The resources that users define: routes, upstreams, services, plugin configs, consumers and global rules.

`definitions` checks and converts them; `store` keeps the current ones and builds the router; `standalone` loads apisix.yaml; `admin` is the
admin API, with `configs` for all definitions in one document, `replies` for the bodies of its answers, and `schemas` for the JSON schemas;
`kinds` describes each kind of definition; `known_plugins` lists the names of APISIX's plugins.

May import: all other packages of the gateway. Start reading in `store.py`.
"""
