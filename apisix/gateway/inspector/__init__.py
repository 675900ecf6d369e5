# SPDX-License-Identifier: Apache-2.0
"""
The inspector: a page that shows the requests of a development gateway, and what plugins did to them.

`flows` keeps the last requests, and turns a report of the gateway into a `Flow`, the JSON that the page shows, without secrets. `actions`
sends requests again. `saved_test` writes tests. `routes` shows and changes configurations, which `plugin_check` validates in a child
process. `configurations` finds their secrets. `background` keeps the states of background tasks, and `load_errors` the plugins that
can't be loaded. `server` serves the page, the API under `/api/`, and the events. `static/` is the page: plain modules for browsers,
without a build step, so that the files in the wheel are the sources.

May import: everything in `gateway`. Start reading in `server.py`.
"""
