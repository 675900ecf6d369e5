# SPDX-License-Identifier: Apache-2.0
"""What the C library's allocator is told, for the sake of large bodies."""

import sys
from contextlib import suppress
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Options of mallopt(3), in glibc."""
KEPT_BYTES: Final = 64 * 2**20
"""How much freed memory at the end of the heap a process keeps."""
FROM_HEAP_BYTES: Final = 32 * 2**20
"""Up to this size a block comes from the heap: a frame of 16 MiB does. It is the most that glibc allows."""


def give_memory_back() -> None:
    """Give the memory that nothing uses back to the system. Takes some milliseconds."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> bool:
    """
    Let this process, and those that it forks, use freed memory again for the next body instead of giving it back and asking anew.

    glibc gives the end of the heap back as soon as 128 KiB of it are free, and the kernel clears each page that is asked for: with bodies
    of 1 MiB that was three quarters of a call's processor time (3.1 ms, and 0.7 ms without), of 8 MiB as much.

    Returns: whether the C library took it; others than glibc have their own ways.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # late: the socket is to be bound before it

    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, FROM_HEAP_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
    return False
