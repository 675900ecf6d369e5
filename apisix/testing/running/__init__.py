# SPDX-License-Identifier: Apache-2.0
"""
Run a call of a test through the runner's engine.

`entries.py` turns `plugins=[...]` into a route configuration. `engine.py` has the engine on one event loop, and `loopback.py` the
connection over which it receives the call. Start reading in `engine.py`.

May import: `sending`, and everything in `runner` up to `call`.
"""
