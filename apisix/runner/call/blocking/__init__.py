# SPDX-License-Identifier: Apache-2.0
"""
Find plugins that block the event loop, and calls that take long.

Start reading in `detector`, which measures for how long hooks block the event loop, and moves blocking plugins to threads.

- `loop_probe`: finds out whether the event loop is blocked.
- `starvation`: measures for how long the thread of the event loop had to wait for a processor.
- `long_calls`: reports calls that take long.
- `places`: finds the line of a plugin in which a thread, task or greenlet is.

May import the packages that `call` may import, but no other module of `call`.
"""
