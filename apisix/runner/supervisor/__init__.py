# SPDX-License-Identifier: Apache-2.0
"""
The supervisor process: it owns the socket, accepts connections, and starts, restarts and replaces workers.

- `supervisor`: startup, main loop, shutdown. Decides which connections are admitted. Start reading here.
- `worker_pool/`: restarts a worker that has exited, kills one that is stuck, and replaces all workers in a rolling restart.
- `listening/`: the socket file, the users that may connect, and the takeover by another runner on the same path.
- `recording`: switches the recording of calls on and off, at SIGUSR1.
- `shutdown`: how and when the process exits.
- `gateway_process`: watches the gateway that has started this runner, if a gateway has.
- `file_watch`: finds changed plugin files, which cause a rolling restart.
- `limits`: checks the number of workers and of file descriptors against what the machine allows.
- `status`: /health, and the metrics of the supervisor.

May import: all other packages of `runner`. Inside: `worker_pool <- listening <- recording, shutdown, status <- supervisor`.
"""
