# SPDX-License-Identifier: Apache-2.0
"""
The command line. Each command is a module, which is imported when the command is used.

`commands.py` lists the commands; start reading there. The modules of commands have their names: `start`, `dev`, `new`, `check`, `plugins`,
`schema`, `doctor`, `health`, `record`, `replay`. `options/` has the options that commands share, and `loading.py` loads plugins
for them. `routes/` reads, validates and edits routes, for `check` and `new`. `diagnosis/` has what `doctor` examines, and the probe of
`health`. `shared_state.py` finds attributes that hooks assign, for `check`. `replaying/` has what `replay` prints and shows.
`scaffold.py` creates the files of `new` from `templates/`.

`start` and `health` must start fast, so neither they nor the modules that they import at their top import click. `with_click.py` has both
for the arguments that need click.

May import: everything in `runner`, `gateway` and `testing`.
"""
