# SPDX-License-Identifier: Apache-2.0
"""
The plugin runner. Packages, each importing only those before it:

- `errors`, `settings`, `logging`, and `primitives`, the functions that exist in C and in Python;
- `wire`, the protocol; `http`, requests and responses; `plugin`, loading and configuring; `legacy`, the APIs of 0.1 and 0.2;
- `state`, the store that plugins share;
- `process_pool`, which runs plugins in other processes;
- `records`, the record of a call; `call`, which runs the plugins of a call; `recording`, which writes the records of calls to a file;
  `tracing`, which makes spans of calls;
- `conf_store`, `metrics` and `ipc`, shared by the processes; `worker` and `supervisor`, the processes themselves.

A request passes `worker/connection_handler.py`, `wire/connection.py` and `call/engine.py`. Start reading there.
"""
