# SPDX-License-Identifier: Apache-2.0
"""When what has failed is tried again."""

from apisix.runner.supervisor.backoff import Backoff


def test_at_once_and_then_later_and_later() -> None:
    """The first failure costs no time, the next ones more and more, up to a bound far below the gateway's patience."""
    backoff = Backoff()

    assert [backoff.next_delay_s(0.1) for _ in range(8)] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_what_has_worked_for_a_while_is_forgiven() -> None:
    """After ten good seconds, the next failure is a first one again."""
    backoff = Backoff()
    for _ in range(5):
        backoff.next_delay_s(0.1)

    assert backoff.next_delay_s(10.0) == 0.0
    assert backoff.next_delay_s(0.1) == 0.25


def test_it_never_overflows() -> None:
    """A worker that fails for weeks is still tried every five seconds."""
    backoff = Backoff()
    assert max(backoff.next_delay_s(0.1) for _ in range(5000)) == 5.0
