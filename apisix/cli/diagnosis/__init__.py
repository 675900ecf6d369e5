# SPDX-License-Identifier: Apache-2.0
"""
What `doctor` examines. Each module examines one subject and yields results: `python`, `gateway`, `sockets`, `processes`, `store`,
`metrics`, `state`, `plugins`.

`result.py` has the class of a result. `probe.py` sends a call to a runner, also for `health`. `processes.py` reads `/proc`.
`release.py` finds the installed release of APISIX, also for `check`. No module changes anything. Start reading in
`apisix/cli/doctor.py`.

May import: everything in `runner`.
"""
