# SPDX-License-Identifier: Apache-2.0
"""
Run calls, from the message of the gateway to exactly one reply.

Start reading at the top of `engine`, which explains how a call runs, is suspended, resumed, fails and ends. `waiting` suspends and resumes
calls, and ends those that exceed their time limit; `chain_cache` builds and keeps the chains; `threads` runs blocking plugins; `deadlines`
has one timer for all calls that wait; and `runtime` is what all calls of a worker share. The sub-package `blocking` finds plugins that
block the event loop, and `observing` records what plugins do. There is no I/O here: replies go to a `reply_sink`.

May import `errors`, `settings`, `logging`, `wire`, `http`, `plugin` and `legacy`.
"""
