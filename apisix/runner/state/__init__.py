# SPDX-License-Identifier: Apache-2.0
"""
The shared store: state that plugins keep for all workers of a machine, or for many machines.

`store.py` has `Store`, which plugins use, and `Lease`. `values.py` encodes keys and values, and refuses those that can't be stored.
`throttling.py` is the arithmetic of rate limits. `backend.py` declares what a place for the entries has to do, and which one is used now.
There are three of them: `embedded.py` is a file in memory that all workers of a machine have open, `redis_server.py` is a server that many
machines share, and `memory.py` is the memory of this process, for tests. `redis_url.py` reads the URL of the server. `counters.py` counts
evictions and errors for the metrics.

May import: `errors`. Start reading in `store.py`.
"""
