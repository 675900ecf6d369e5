# SPDX-License-Identifier: Apache-2.0
"""The allocator: memory of one body is used again for the next."""

import platform
import subprocess
import sys

import pytest

# Allocates and frees blocks of 4 MiB, and prints how many pages the kernel had to provide for the last twenty of them.
CODE = """
import resource
from apisix.runner.worker.allocator import keep_freed_memory
{}
for number in range(30):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [bytearray(b"x" * 262144) for _ in range(16)]
    whole = b"".join(pieces)
    del pieces, whole
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(first: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE.format(first)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again() -> None:
    """Without `keep_freed_memory`, the kernel provides new pages for each block. With it, no new pages are needed."""
    assert page_faults("") > 20_000
    assert page_faults("assert keep_freed_memory()") < 1000
