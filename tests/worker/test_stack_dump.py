# SPDX-License-Identifier: Apache-2.0
"""The stacks that a stuck worker writes for the supervisor."""

import os
import subprocess
import sys

import pytest

# Requests its own stacks in a function whose name they contain.
CODE = """
import os, sys
from apisix.runner.worker.stack_dump import StackDump
dump = StackDump()
dump.arm()
def stuck():
    dump.request(os.getpid())
stuck()
text = dump.read()
print("in stuck" in text, "still running")
"""


@pytest.mark.process
def test_a_process_that_has_written_its_stacks_continues() -> None:
    """It is not stuck if it was only slow. Without a handler of its own, the signal would end the process."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=os.environ, timeout=60, check=False)

    assert (done.stdout, done.returncode) == ("True still running\n", 0)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_no_directory_for_temporary_files() -> None:
    """A container with a read-only file system may have none."""
    code = f"import tempfile\ntempfile.tempdir = '/proc/nowhere'\n{CODE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60, check=False)

    assert (done.stdout, done.returncode) == ("True still running\n", 0)
