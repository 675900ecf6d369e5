# SPDX-License-Identifier: Apache-2.0
"""
Routes for `check`, `new`, and the inspector of `dev`.

`files.py` reads files, `live.py` a running gateway, and `manifests.py` the plugins of Kubernetes manifests. `search.py` finds
configurations in all of them, which `found.py` describes, and `validation.py` validates a configuration. `text.py` adds a route to an
apisix.yaml. `for_inspector.py` is a program that `dev` starts to validate configurations. Start reading in `search.py`.

May import: `http`, `plugin`, `gateway`.
"""
