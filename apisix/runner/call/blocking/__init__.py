# SPDX-License-Identifier: Apache-2.0
"""
Find plugins that block the event loop, and say in which line a call is.

`detector` is the place to start: it measures for how long hooks hold the event loop and moves blocking plugins to threads. `loop_turn`
and `starvation` measure the loop and its thread, `long_calls` reports calls that take long, and `places` finds the lines of plugins.
Imports what `call` may import, and nothing else of `call`.
"""
