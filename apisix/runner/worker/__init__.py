# SPDX-License-Identifier: Apache-2.0
"""
A worker process: it serves the gateway connections that the supervisor passes to it.

- `worker`: the main function of the process, its heartbeat, and the messages of the supervisor, such as "drain". Start reading here.
- `connection_handler`: reads frames from the socket of one connection, runs calls and writes replies. It also wakes a call that waits when
  the gateway hangs up.
- `context`: the state that all connection handlers share.
- `prepare_conf`: stores the configurations of PrepareConf messages, and replies with tokens.
- `service`: what a worker does for its connections: loads plugins and opens the conf store.
- `shared_store`: where the shared store of plugins is, and its metrics.
- `shared_metadata`: the metadata of requests, which all workers share, and its metrics.
- `held_bytes`: limits how many bytes all connections hold, and for how long.
- `heartbeat`, `stack_dump`: memory and a file that worker and supervisor share, so that the supervisor finds and explains a stuck worker.
- `observers`: the listeners to the calls: `effects_log`, and those that the worker has.
- `log_redaction`: replaces secrets in the log.
- `allocator`, `breakpoints`, `lost_tasks`: settings of the process and of the log.

May import: everything but `supervisor`.
"""
