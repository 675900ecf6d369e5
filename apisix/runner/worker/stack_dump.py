# SPDX-License-Identifier: Apache-2.0
"""The stacks of a stuck worker. The worker writes them itself, in a signal handler in C."""

import faulthandler
import os
import signal
from typing import Final

DUMP_SIGNAL: Final = signal.SIGUSR1
MAX_DUMP_BYTES: Final = 1 << 16


class StackDump:
    """
    A file without a name that a worker and the supervisor share from before the fork.

    The supervisor reads it and logs it as one record, because a dump to stderr would interrupt a stream of JSON lines.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):  # Linux; a container may have no directory for temporary files
            self._file = open(os.memfd_create("stacks", os.MFD_CLOEXEC), "w+b", buffering=0)  # noqa: SIM115  # closed with `close`
            return
        import tempfile  # late, because the import is slow and the socket has to be bound first

        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # shared by two processes; closed by each with `close`

    def arm(self) -> None:
        """In the worker: write the stacks of all threads whenever `DUMP_SIGNAL` arrives, even if the interpreter is blocked."""
        faulthandler.register(DUMP_SIGNAL, file=self._file, all_threads=True, chain=False)

    def request(self, pid: int) -> None:
        """In the supervisor: let the worker write its stacks. Raise ProcessLookupError if it has exited."""
        os.kill(pid, DUMP_SIGNAL)

    def read(self) -> str:
        """In the supervisor: return the stacks that were written so far."""
        return os.pread(self._file.fileno(), MAX_DUMP_BYTES, 0).decode(errors="replace")

    def close(self) -> None:
        """Close the file in this process."""
        self._file.close()
