# SPDX-License-Identifier: Apache-2.0
"""Configure the allocator of the C library for large bodies."""

import sys
from contextlib import suppress
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Options of mallopt(3), in glibc."""
KEPT_BYTES: Final = 64 * 2**20
"""How much freed memory a process keeps at the end of its heap."""
FROM_HEAP_BYTES: Final = 32 * 2**20
"""Blocks up to this size are allocated on the heap, which includes the largest frame. glibc does not allow more."""


def give_memory_back() -> None:
    """Return unused memory to the system. This is slow, so call it only when the worker is idle."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> bool:
    """
    Let this process, and the processes that it forks, use freed memory again for the next body, instead of returning it to the system.

    By default, glibc returns the end of the heap as soon as a small part of it is free, and the kernel clears each page that is allocated
    again. With large bodies, this takes most of the processor time of a call.

    Returns: whether the C library accepted the options. Only glibc has them.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # late, because the socket has to be bound before slow imports

    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, FROM_HEAP_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
    return False
