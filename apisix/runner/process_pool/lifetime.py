# SPDX-License-Identifier: Apache-2.0
"""End a process when its parent exits."""

import os
import sys
from contextlib import suppress


def die_with(parent_pid: int) -> None:
    """
    Have the system kill this process when its parent exits, for whatever reason. Must be called in the child.

    Only Linux can do this. On other systems, a child must exit when its channel to the parent is closed.
    """
    if sys.platform != "linux":
        return
    import ctypes  # late, because only Linux needs it

    pr_set_pdeathsig, sigkill = 1, 9
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, sigkill, 0, 0, 0)
    if os.getppid() != parent_pid:  # the parent exited before the call
        os._exit(1)
