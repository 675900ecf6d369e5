# SPDX-License-Identifier: Apache-2.0
"""
Some thousand broken frames over the wire layer and over sockets; `python -m tests.fuzz` sends many more.

A failing test shows the seed of its frames. The environment variable FUZZ_SEED sets it, to repeat the test.
"""

import os
import sys
from random import Random

import pytest

from apisix.compiled import why_pure
from apisix.runner.wire.connection import Role
from tests.fuzz import differential, over_socket, over_wire
from tests.fuzz.mutations import Mutator
from tests.runner_process import running

WIRE_FRAMES = 5000
SOCKET_FRAMES = 3000
DIFFERENTIAL_FRAMES = 2000


@pytest.fixture
def seed() -> int:
    """Return the seed that FUZZ_SEED contains, or a random one, and print it."""
    chosen = int(os.environ.get("FUZZ_SEED") or Random().getrandbits(32))  # noqa: S311  # no secret
    print(f"FUZZ_SEED={chosen}")
    return chosen


@pytest.mark.parametrize("receiver", list(Role))
def test_over_the_wire_layer(receiver: Role, seed: int) -> None:
    """The frames must include readable, malformed and incomplete ones. A fuzz test with only one outcome proves nothing."""
    sender = next(role for role in Role if role is not receiver)
    mutator = Mutator(over_wire.seeds(sender), seed=seed)
    ways = over_wire.WAYS[receiver]
    outcomes = set()
    for number in range(WIRE_FRAMES):
        data = mutator.frame()
        try:
            outcomes.add(over_wire.feed(over_wire.prepared(receiver, ways[number % len(ways)]), mutator.pieces(data)))
        except Exception as error:
            error.add_note(data.hex())
            raise
    assert outcomes == {"read", "malformed", "incomplete"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_over_a_socket(seed: int) -> None:
    """During an attack with broken frames, slow frames, unexpected info replies and nested calls, the runner replies to each valid call."""
    with running("--workers", "2", plugins=[over_socket.PLUGINS]) as runner:
        outcome = over_socket.attack(runner, SOCKET_FRAMES, seed=seed)
    assert outcome.same_workers
    assert outcome.broken >= SOCKET_FRAMES
    assert {"told an error", "closed", "asked", "answered", "left without a word"} <= set(outcome.seen)
    assert "Traceback" not in outcome.log


@pytest.mark.skipif(why_pure() is not None, reason=f"nothing to compare with: {why_pure()}")
def test_both_engines(seed: int) -> None:
    """A runner of the compiled engine and one of the Python sources reply to the same broken frames with the same bytes."""
    assert differential.run(DIFFERENTIAL_FRAMES, seed)
