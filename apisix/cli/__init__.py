# SPDX-License-Identifier: Apache-2.0
"""
The command line: one module for each command, imported when the command is used.

`commands.py` lists the commands; start reading there. `start`, `health` and the flags that they share do not import click, because they
must start fast. `routes/` reads and edits files of routes, for `check` and `new`. `diagnosis/` has what `doctor` examines.

May import: everything in `runner`, `gateway` and `testing`.
"""
