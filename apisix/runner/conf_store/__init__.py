# SPDX-License-Identifier: Apache-2.0
"""
The conf store: it maps tokens to route configurations. All workers share it, and it survives restarts, in an SQLite file beside the socket.

- `store`: the operations: store a configuration and return its token, and look a token up. Start reading here.
- `sqlite_file`: opens the SQLite file, and replaces it if it is damaged.
- `placement`: chooses the directory of the file, and checks that other users cannot write to it.
- `write_lock`: lets one worker write at a time.
- `memory_fallback`: keeps configurations that cannot be written, until the runner exits.

May import: `errors` to `call`, `settings`, `logging`.
"""
