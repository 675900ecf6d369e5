# SPDX-License-Identifier: Apache-2.0
"""
Routes for `check` and `new`.

`files.py` reads files, `live.py` a running gateway, and `manifests.py` the plugins of Kubernetes manifests. `search.py` finds
configurations in all of them, which `found.py` describes, and `validation.py` validates a configuration. `text.py` adds a route to an
apisix.yaml. Start reading in `search.py`.

May import: `http`, `plugin`, `gateway`.
"""
