# SPDX-License-Identifier: Apache-2.0
"""
The HTTP side of the development gateway: HTTP/1 requests, the server, the client for upstreams, URIs and headers as nginx handles them.

May import: nothing else of the gateway. Start reading in `server.py`.
"""
