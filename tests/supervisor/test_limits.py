# SPDX-License-Identifier: Apache-2.0
"""The limits of the machine, and the messages if a setting exceeds them."""

import resource

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
