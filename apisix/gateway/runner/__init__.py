# SPDX-License-Identifier: Apache-2.0
"""
The runner as the gateway sees it: its process, its log, and the pool of connections to it.

Start reading in `process.py`.
"""
