# SPDX-License-Identifier: Apache-2.0
"""The limits of the machine, and the messages if a setting exceeds them."""

import os
import resource
from pathlib import Path

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.supervisor import limits
from apisix.runner.supervisor.limits import raise_descriptor_limit, worker_count


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 4 cores and 8 GiB, without a limit on processes."""
    monkeypatch.setattr(limits, "cores", lambda: 4)
    monkeypatch.setattr(limits, "memory_bytes", lambda: 8 << 30)
    monkeypatch.setattr(limits, "process_limit", lambda: None)


MEMORY_BYTES = limits.memory_bytes
PROCESS_LIMIT = limits.process_limit


def test_what_the_machine_allows() -> None:
    """auto is one per core. A number is used as it is, up to 64 per core."""
    assert (worker_count("auto"), worker_count(1), worker_count(256)) == (4, 1, 256)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("cores", 1, "1 cores can run at most 64 workers, 64 on each. Set it to 64 or less"),
        ("memory_bytes", 1 << 30, "1024 MiB of memory are enough for at most 64 workers, with 16 MiB for each. Set it to 64 or less"),
        ("process_limit", 65, "the limit on processes (ulimit -u) is 65. Set it to 64 or less"),
    ],
)
def test_too_many_workers(limit: str, value: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many workers for the cores, the memory or the limit on processes are refused, with the reason and the highest number."""
    monkeypatch.setattr(limits, limit, lambda: value)

    assert worker_count(64) == 64
    with pytest.raises(SettingsError) as caught:
        worker_count(65)
    assert str(caught.value) == f"workers.count is 65, which is too many for this machine: {reason}"


def test_auto_on_a_machine_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto is never more than the machine allows, and at least one."""
    monkeypatch.setattr(limits, "memory_bytes", lambda: 40 << 20)
    assert worker_count("auto") == 2
    monkeypatch.setattr(limits, "memory_bytes", lambda: 1 << 20)
    assert (worker_count("auto"), worker_count(1)) == (1, 1)


def test_too_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the limit on open files is too low to start, the message contains the number that is needed."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (16, 16))
    with pytest.raises(SettingsError) as caught:
        raise_descriptor_limit(2)
    assert str(caught.value) == (
        "the limit on open files (ulimit -n) is 16, but 2 worker(s) need at least 32, and one more for each connection. Raise the limit"
    )


def test_the_number_that_is_needed_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (32, 32))

    raise_descriptor_limit(2)
    with pytest.raises(SettingsError):
        raise_descriptor_limit(3)


@pytest.mark.parametrize(
    ("soft", "hard", "raised_to"),
    [
        pytest.param(1024, 4096, (4096, 4096), id="as far as the system allows"),
        pytest.param(1024, 1 << 30, (1 << 20, 1 << 30), id="not beyond a million"),
        pytest.param(1024, resource.RLIM_INFINITY, (1 << 20, resource.RLIM_INFINITY), id="the same without a hard limit"),
        pytest.param(4096, 4096, None, id="not if it is there"),
        pytest.param(1 << 21, 1 << 22, None, id="never down"),
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, id="not if there is none"),
    ],
)
def test_the_limit_on_descriptors_is_raised(
    soft: int, hard: int, raised_to: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, both: set_to.append(both))

    raise_descriptor_limit(1)

    assert set_to == ([] if raised_to is None else [raised_to])


def test_a_limit_that_was_raised_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is used after it was raised. If the system refuses to raise it, the old one is used."""

    def refuse(kind: int, both: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (16, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, both: None)
    raise_descriptor_limit(2)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(SettingsError, match="is 16"):
        raise_descriptor_limit(2)


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest limit is used. If there is none, it is the memory of the machine: pages times their size."""
    machine = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    limit, other = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(limits, "_CGROUP_LIMITS", (limit, other))
    monkeypatch.setattr(os, "sysconf", machine.__getitem__)

    assert MEMORY_BYTES() == 4096000
    limit.write_text("max\n")
    assert MEMORY_BYTES() == 4096000
    other.write_text("2048000\n")
    assert MEMORY_BYTES() == 2048000
    limit.write_text("1024000\n")
    assert MEMORY_BYTES() == 1024000
    limit.write_text("8192000\n")
    other.unlink()
    assert MEMORY_BYTES() == 4096000


@pytest.mark.parametrize(
    ("soft", "user", "limit"),
    [(100, 1000, 100), (resource.RLIM_INFINITY, 1000, None), (100, 0, None)],
    ids=["of a user", "without a limit", "of root"],
)
def test_the_limit_on_processes(soft: int, user: int, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, 1 << 20))
    monkeypatch.setattr(os, "geteuid", lambda: user)

    assert PROCESS_LIMIT() == limit
