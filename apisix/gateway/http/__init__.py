# SPDX-License-Identifier: Apache-2.0
"""
HTTP as nginx handles it.

`http1` reads and checks requests; `listener` serves connections; `answer` and `pages` have the answers; `headers` and `uris` edit headers,
paths and queries as nginx does. `tunnel` carries the bytes after an upgrade, such as WebSocket messages. `echo` is the upstream of `dev`,
which describes each request.

May import: nothing else of the gateway. Start reading in `listener.py`.
"""
