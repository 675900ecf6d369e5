# SPDX-License-Identifier: Apache-2.0
"""
What the command `replay` prints and shows.

`report.py` has the report as text and as JSON lines, and `inspect.py` shows differences in the inspector. Start reading in `report.py`.

May import: `testing`, `gateway`, and the runner's `records`.
"""
