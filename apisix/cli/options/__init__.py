# SPDX-License-Identifier: Apache-2.0
"""
The options of the commands.

`flags.py` adds the flags of settings to a click command. `arguments.py` reads the same flags without click, for the commands that must
start fast. Start reading in `flags.py`.

May import: `settings`.
"""
