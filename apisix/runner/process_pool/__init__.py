# SPDX-License-Identifier: Apache-2.0
"""
Run the hooks of plugins with `runs_in = "process"` in a pool of processes.

Each worker has a pool. Start reading in `pool`, which passes calls to processes and replaces processes that have ended.

- `hook`: the hook in the chain of the worker, which waits for a process.
- `back_off`: decides when a process may be started.
- `fork_server`, `pool_process`: the fork server and one process, as the worker sees them.
- `messages`: what is sent between the worker and the processes.
- `__main__`: the fork server, which forks the processes.
- `hook_process`: the process. `runner` creates plugins there and runs their hooks, `log` passes on their log lines.
- `lifetime`: ends processes whose parent has exited.

May import `errors`, `settings`, `logging`, `wire`, `http`, `state`, `plugin` and `legacy`.
"""
