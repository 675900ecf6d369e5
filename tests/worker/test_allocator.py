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


# Keeps freed memory, frees a little more than half of what the heap keeps at its end, and prints how much of it was returned, in bytes.
RETURNED = """
import os
from apisix.runner.worker.allocator import give_memory_back, keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
assert keep_freed_memory()
pieces = [bytearray(b"x" * 1048576) for _ in range(40)]
del pieces
before = resident()
{}
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_unused_memory_is_given_back_on_request() -> None:
    def returned(call: str) -> int:
        done = subprocess.run([sys.executable, "-c", RETURNED.format(call)], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert returned("") < 2**20
    assert returned("give_memory_back()") > 30 * 2**20
