# SPDX-License-Identifier: Apache-2.0
"""
What `doctor` examines, one subject in each module, as results that are printed one per line.

`result.py` is what an examination yields. `processes.py` reads `/proc`, and `release.py` finds the installed release of APISIX, also for
`check`. Nothing here changes anything. Start reading in `apisix/cli/doctor.py`.

May import: everything in `runner`.
"""
