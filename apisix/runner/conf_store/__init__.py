# SPDX-License-Identifier: Apache-2.0
"""
The store of tokens and the configurations behind them, shared by all workers and kept over restarts.

`placement` decides where the SQLite file is; `sqlite_file` opens and replaces it; `write_lock` lets one worker write at a time;
`memory_fallback` keeps what the file cannot take. May import: up to `call`. Start reading in `store.py`.
"""
