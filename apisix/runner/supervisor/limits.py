# SPDX-License-Identifier: Apache-2.0
"""The limits of the machine on the number of workers and of file descriptors."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from apisix.runner.errors import SettingsError

WORKERS_PER_CORE: Final = 64
"""Many workers can share a core if their plugins mostly wait. A larger number is a mistake, such as an extra zero."""
WORKER_BYTES: Final = 16 << 20
"""About how much memory a worker without plugins needs, beside the memory that it shares with the supervisor."""
MAX_DESCRIPTORS: Final = 1 << 20
DESCRIPTORS_PER_WORKER: Final = 4
"""The supervisor's end of a worker's channel, its stack dump, and both ends of the channel while it is being forked."""
OTHER_DESCRIPTORS: Final = 24
"""Other descriptors of the supervisor (streams, log, listener, selector, signals), and some to load modules."""

_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Return how much memory this machine or container has."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # absent, or "max"
            sizes.append(int(file.read_text(encoding="ascii")))
    return min(sizes)


def process_limit() -> int | None:
    """Return how many processes the user of this process may have, or None if there is no limit. Root has no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return None if soft == resource.RLIM_INFINITY or os.geteuid() == 0 else soft


def worker_count(wanted: int | Literal["auto"]) -> int:
    """
    Return how many workers to start.

    Args: wanted: the setting `workers.count`; "auto" means one per core, or as many as the machine allows if that is fewer.
    Raises: SettingsError: the machine does not allow that many.
    """
    per_machine = cores() * WORKERS_PER_CORE
    memory = memory_bytes()
    limits = [
        (per_machine, f"{cores()} cores can run at most {per_machine} workers, {WORKERS_PER_CORE} on each"),
        (
            memory // WORKER_BYTES,
            f"{memory >> 20} MiB of memory are enough for at most {memory // WORKER_BYTES} workers, with {WORKER_BYTES >> 20} MiB for each",
        ),
    ]
    processes = process_limit()
    if processes is not None:
        limits.append((processes - 1, f"the limit on processes (ulimit -u) is {processes}"))
    most, reason = min(limits)
    if wanted == "auto":
        return max(1, min(cores(), most))
    if wanted > max(1, most):
        raise SettingsError(f"workers.count is {wanted}, which is too many for this machine: {reason}. Set it to {max(1, most)} or less")
    return wanted


def raise_descriptor_limit(workers: int) -> None:
    """
    Raise the limit on file descriptors as far as the system allows.

    Every connection needs a descriptor. The usual soft limit is meant for programs that use select().

    Raises: SettingsError: there are too few descriptors to start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    needed = OTHER_DESCRIPTORS + DESCRIPTORS_PER_WORKER * workers
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise SettingsError(
            f"the limit on open files (ulimit -n) is {soft}, but {workers} worker(s) need at least {needed}, "
            "and one more for each connection. Raise the limit"
        )
