# SPDX-License-Identifier: Apache-2.0
"""
Run calls, from the message of the gateway to the reply.

Start reading at the top of `engine`, which explains how a call runs, is suspended, is resumed, fails and ends.

- `waiting`: suspends and resumes calls, and fails those whose time limit is over. `greenlets` is for plain hooks that wait in the middle,
  and `info_channel` for info requests. `resumable` is the interface of a call for these two.
- `threads`: runs blocking plugins. `outcomes` transfers results and exceptions of tasks and threads to the calls that wait for them.
- `failure_reply`: the reply to a call that is refused.
- `deadlines`: has one timer for all calls that wait. When it expires, it calls `waiting`.
- `chain_cache`: builds and keeps the chains.
- `metadata_store`: keeps the metadata of requests in memory.
- `runtime`: the state and the limits that all calls of a worker share.
- `reply_sink`: the interface through which a call sends its messages. This package does no I/O itself.
- `blocking`: finds plugins that block the event loop.
- `observing`: records what plugins do.

May import `errors`, `settings`, `logging`, `wire`, `http`, `plugin`, `legacy` and `process_pool`.
"""
