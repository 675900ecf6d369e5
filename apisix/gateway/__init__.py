# SPDX-License-Identifier: Apache-2.0
"""
The development gateway: it accepts HTTP requests, does what Apache APISIX does with them, and calls the runner over its protocol.

May import: up to `call` of the runner, for messages and errors; the runner itself is another process. Start reading in `server.py`.
"""
