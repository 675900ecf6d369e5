# SPDX-License-Identifier: Apache-2.0
"""Make more calls than may wait, and measure how soon the next one is refused."""

import time
from contextlib import ExitStack

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq, HTTPReqCallReq
from tests.peer import PRE_REQ
from tests.soak.stage import stage

IN_FLIGHT = 1000
"""The default of `limits.max_in_flight`."""
TARGET_S = 0.010


def run(calls: int) -> bool:
    """Let the maximum number of calls wait, and make `calls` more. Return True if each was refused, and 99 of 100 of them in time."""
    with stage() as ours, ExitStack() as waiting:
        peers = [waiting.enter_context(ours.runner.peer()) for _ in range(IN_FLIGHT)]
        token = peers[0].prepare(("waits", '{"route": "overload"}'), key=PRE_REQ)
        for number, peer in enumerate(peers):
            peer.send(HTTPReqCallReq(id=number, conf_token=token))
            if not isinstance(asked := peer.receive(), ExtraInfoReq):  # it is never answered, so the call waits
                print(f"MISSED: call {number} does not wait: {asked!r}")
                return False
        waits_s = []
        wrong = 0
        with ours.runner.peer() as peer:
            for _ in range(calls):
                began_s = time.perf_counter()
                reply = peer.request(token)
                waits_s.append(time.perf_counter() - began_s)
                wrong += reply != ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        waits_s.sort()
    median_s, tail_s = waits_s[len(waits_s) // 2], waits_s[int(len(waits_s) * 0.99)]
    print(
        f"{IN_FLIGHT:,} calls waited, {calls:,} more: {calls - wrong:,} refused, half of them within {median_s * 1000:.2f} ms, "
        f"99 of 100 within {tail_s * 1000:.2f} ms, all within {waits_s[-1] * 1000:.1f} ms"
    )
    return not wrong and tail_s <= TARGET_S
