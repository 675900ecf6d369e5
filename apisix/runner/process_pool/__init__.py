# SPDX-License-Identifier: Apache-2.0
"""
Run the hooks of plugins with `runs_in = "process"` in a pool of processes.

Each worker has a pool. Start reading in `pool`, which passes calls to processes and replaces processes that have ended.

- `hook`: the hook in the chain of the worker, which waits for a process.
- `pool_process`: one process, as the worker sees it.
- `messages`: what is sent between both.
- `__main__`: the process. `runner` creates plugins there and runs their hooks, `log` passes on their log lines.
- `lifetime`: ends processes whose parent has exited.

May import `errors`, `settings`, `logging`, `wire`, `http`, `state`, `plugin` and `legacy`.
"""
