# SPDX-License-Identifier: Apache-2.0
"""
The worker processes of a supervisor: how they are started, get connections, are restarted, and are replaced.

- `pool`: restarts a worker that has exited, and replaces workers without closing connections, for example in a rolling restart after a
  reload. Start reading here.
- `worker_process`: one worker as the supervisor sees it, with its state, its heartbeat and its connections.
- `forking`: how a worker is forked. `backoff`: how long to wait before a worker that has failed is started again.
- `balancing`: which worker gets a connection. `refusal`: closes a connection that no worker can serve.
- `watchdog`: kills workers that are stuck, and replaces those that use too much memory.

May import: all packages of `runner`, but no other module of `supervisor`.
"""
