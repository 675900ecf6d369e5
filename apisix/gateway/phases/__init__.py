# SPDX-License-Identifier: Apache-2.0
"""
What APISIX does with a request, phase by phase and release by release.

`context` is the state of one request. `plugins` lists the plugins that are emulated: `phases` calls the runner for ext-plugin-*, with the
tokens of `tokens`; `edits` applies its replies, which `describe` puts into words; `proxy_rewrite` and `auth` are plugins of APISIX.
`variables` are those of nginx and APISIX; `quirks` has the differences of older releases.

May import: `http`, `routing`, `runner`. Start reading in `phases.py`.
"""
