# SPDX-License-Identifier: Apache-2.0
"""How long to wait before a failed worker is started again."""

from apisix.runner.supervisor.worker_pool.backoff import Backoff


def test_the_delay_grows() -> None:
    """There is no delay after the first failure. After more failures the delay grows, up to a limit below the gateway's timeout."""
    backoff = Backoff()

    assert [backoff.next_delay_s(0.1) for _ in range(8)] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_failures_are_forgotten() -> None:
    """If a worker ran for ten seconds, its failure counts as the first one."""
    backoff = Backoff()
    for _ in range(5):
        backoff.next_delay_s(0.1)

    assert backoff.next_delay_s(10.0) == 0.0
    assert backoff.next_delay_s(0.1) == 0.25


def test_the_delay_never_overflows() -> None:
    """A worker that fails for weeks is still started every five seconds."""
    backoff = Backoff()
    assert max(backoff.next_delay_s(0.1) for _ in range(5000)) == 5.0
