# SPDX-License-Identifier: Apache-2.0
"""
The development gateway: it accepts HTTP requests, does what Apache APISIX does with them, and calls the runner over its protocol.

`http_server.py` passes requests to `server.py`, which matches a route, runs the phases and sends the request to the upstream. `dev.py`
starts all parts, and `display.py` prints a `report.py` of each request. `scratch.py` has the temporary directory. Packages, each importing
only those before it: `http`, `routing`, `runner`, `phases`, `resources`. `inspector` shows the requests on a page.

May import: up to `call` of the runner, for messages and errors; the runner itself is another process. Start reading in `server.py`.
"""
