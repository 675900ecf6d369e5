# SPDX-License-Identifier: Apache-2.0
"""
Record the calls of a worker in a file of JSON lines (`records/format.py`), which `replay` reads.

- `recorder`: the listener to the calls, and the thread that makes and writes the records. Start reading here.
- `selection`: decides which calls are recorded.
- `budget`: limits the processor time of the thread.
- `file`: the file that all workers of a runner append to, and its rotation.
- `state`: what `apisix-runner record` reads: whether a runner records calls, and how many it has recorded.

The event loop only puts the trace of a call into a bounded queue. If the queue is full, calls are not recorded, but counted.

May import: `errors` to `call`, `settings`, `logging`.
"""
