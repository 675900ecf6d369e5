# SPDX-License-Identifier: Apache-2.0
"""
Replay recorded calls: run them through the plugins as they are now, and find what differs.

`reading.py` reads a file of records. `recorded.py` makes of a record what the test kit sends, with info replies from the record.
`differences.py` compares two records, and `comparable.py` decides if they can be compared although the first has no secrets.
`replayed.py` has the result. `parametrizing.py` has the decorator for tests. Start reading in `reading.py`.

May import: `sending`, `running`, `results`, and the runner's `records`, `http`, `wire` and `call`.
"""
