# SPDX-License-Identifier: Apache-2.0
"""
The runner as the gateway sees it.

`process` starts, watches and replaces it; `connection_pool` keeps connections to it; `log` parses its output.

May import: `http`, `routing`. Start reading in `process.py`.
"""
