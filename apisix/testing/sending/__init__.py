# SPDX-License-Identifier: Apache-2.0
"""
What a test sends: a request or a response, as the gateway would send it to the runner.

`messages.py` creates both and sends info replies. `query.py` reads and writes paths and queries, and `variables.py` computes the
gateway's variables. Start reading in `messages.py`.

May import: `http`, `wire`.
"""
