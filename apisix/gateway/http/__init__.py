# SPDX-License-Identifier: Apache-2.0
"""
The HTTP side of the development gateway: HTTP/1 requests, the server, the client for upstreams, URIs and headers as nginx handles them.

Start reading in `server.py`, which connects it to the gateway, then `http1.py`.
"""
