# SPDX-License-Identifier: Apache-2.0
"""
The supervisor process: it owns the socket, accepts connections, and starts, restarts and replaces workers.

- `supervisor`: startup, main loop, shutdown. Start reading here.
- `acceptor`: accepts connections, and notices another runner that takes the path. `shutdown`: how and when the process exits.
- `worker_pool`: restarts a worker that has exited, and replaces all workers in a rolling restart after a reload.
- `worker_process`, `forking`, `backoff`: one worker as the supervisor sees it, how it is forked, and how long to wait before a restart.
- `balancing`: which worker gets a connection.
- `watchdog`: kills workers that are stuck, and replaces those that use too much memory.
- `listener`, `credentials`, `refusal`: bind the socket file, decide which users may connect to it, and refuse connections.
- `takeover`: passes all connections to another runner that has bound the same path.
- `gateway_process`: watches the gateway that has started this runner, if one has.
- `file_watch`: notices changed plugin files. `limits`: checks the number of workers and file descriptors. `status`: /health, and metrics.

May import: all other packages of `runner`.
"""
