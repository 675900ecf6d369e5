# SPDX-License-Identifier: Apache-2.0
"""
A worker process: it serves the gateway connections that the supervisor passes to it.

`connection_handler` reads frames, runs calls and writes replies; `prepare_conf` answers PrepareConf.
May import: up to `ipc`. Start reading in `worker.py`, then `connection_handler.py`.
"""
