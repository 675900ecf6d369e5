# SPDX-License-Identifier: Apache-2.0
"""The result of a replay."""

from dataclasses import dataclass, field, fields
from typing import Final

from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.records.format import CallRecord
from apisix.testing.replaying.comparable import NotComparable, check_comparable
from apisix.testing.replaying.differences import Difference, differences
from apisix.testing.replaying.reading import RecordedCall
from apisix.testing.replaying.recorded import RecordedReplies
from apisix.testing.results.result import Result

MAX_FRAME_B: Final = 1 << 24
"""No body in a frame is longer, so no body of a replay is truncated."""
SLOWER_FACTOR: Final = 2.0
SLOWER_S: Final = 0.005
"""A replay is reported as slower if it takes that many times as long, and that many seconds more."""


@dataclass(frozen=True)
class ReplayResult(Result):
    """
    The result of `client.replay`. It has everything that a `Result` has.

    Attributes:
        differences: what differs from the record, in the order of the call. Empty if nothing does.
        slower: how long the call took when it was recorded and now, in seconds, without the time of info requests; None if it is not much
            slower now.
    """

    differences: list[Difference] = field(default_factory=list)
    slower: tuple[float, float] | None = field(default=None, compare=False)


def to_replay(record: RecordedCall | CallRecord, *, has_plugins: bool) -> RecordedCall:
    """
    Return a recorded call that can be replayed.

    Args: has_plugins: True if the test names the plugins, so that their configuration need not be in the file.
    Raises: NotComparable: the record lacks something.
    """
    recorded = record if isinstance(record, RecordedCall) else RecordedCall(record, None)
    if recorded.configuration is None and not has_plugins:
        raise NotComparable("the file has no configuration of this route. Give the plugins, as in client.replay(record, plugins=[...])")
    if recorded.call.reply is None:
        raise NotComparable("the gateway closed the connection before the reply, so it is not known what the plugins would have done")
    return recorded


def replay_maker() -> RecordMaker:
    """Return what makes the records of replays. They contain secrets, and are only compared."""
    return RecordMaker(MAX_FRAME_B, redacts=False)


def replay_result(recorded: RecordedCall, replies: RecordedReplies, result: Result, maker: RecordMaker) -> ReplayResult:
    """
    Compare the result of a replay with its record.

    Raises: NotComparable: the reasons are in `comparable.py`.
    """
    if replies.incomplete:
        raise NotComparable(
            f"a plugin reads {replies.incomplete[0]}, and the record has only its beginning. Record with a larger body limit"
        )
    before = recorded.call
    trace = result._trace
    if trace is None:
        raise NotComparable(f"the plugins did not run: {result.error}")
    now = maker.make(trace)
    found = differences(before, now, recorded.configuration, replies.missing)
    if found:
        check_comparable(before, now, recorded.configuration)
    return ReplayResult(
        **{each.name: getattr(result, each.name) for each in fields(Result)}, differences=found, slower=_slower(before, now)
    )


def _slower(before: CallRecord, now: CallRecord) -> tuple[float, float] | None:
    old, new = _own_time(before), _own_time(now)
    return (old, new) if new > SLOWER_FACTOR * old and new > old + SLOWER_S else None


def _own_time(record: CallRecord) -> float:
    """Return how long a call took without the time of info requests, which can overlap in coroutines."""
    return max(0.0, record.duration_s - sum(info.duration_s for info in record.info))
