# SPDX-License-Identifier: Apache-2.0
"""
Send the same malformed frames to a runner of the compiled engine and to one of the Python sources. Both must reply with the same bytes.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from apisix.compiled import VARIABLE, why_pure
from apisix.runner.wire.frames import HEADER_BYTES, FrameType
from tests.fuzz.attacks import Attacks
from tests.peer import POST_RESP
from tests.runner_process import RunnerProcess, running

PLUGINS: Final = Path(__file__).parent / "plugins"
BATCH: Final = 25
"""Connections to each runner at the same time."""
PATIENCE_S: Final = 20.0
"""How long a runner may take for a reply, in seconds."""
REPEATS: Final = 3
"""How often a script is sent again if the replies differ."""
SHOWN: Final = 5
"""How many differences are printed."""


def run(frames: int, seed: int) -> bool:
    """Send broken frames to a compiled and a pure runner, and compare everything that they send until they hang up."""
    if (reason := why_pure()) is not None:
        print(f"there is no compiled engine to compare with: {reason}")
        return False
    started = [{VARIABLE: ""}, {VARIABLE: "1"}]
    arguments = ("--workers", "1", "--log-level", "error")
    with (
        running(*arguments, plugins=[PLUGINS], environ=started[0]) as compiled,
        running(*arguments, plugins=[PLUGINS], environ=started[1]) as pure,
    ):
        runners = (compiled, pure)
        tokens = [_tokens(runner) for runner in runners]
        if tokens[0] != tokens[1]:
            print(f"the runners issue different tokens: {tokens}")
            return False
        attacks = Attacks(*tokens[0], seed)
        endings: Counter[str] = Counter()
        differences = 0
        began_s = time.monotonic()
        while attacks.broken < frames and differences < SHOWN:
            # Replies to the info requests follow at once: nothing has to wait, so nothing depends on time.
            scripts = [b"".join([*attacks.script(), attacks.broken_answer(), attacks.broken_answer()]) for _ in range(BATCH)]
            transcripts = [_transcripts(runner, scripts) for runner in runners]
            for script, ours, theirs in zip(scripts, *transcripts, strict=True):
                endings[_ending(ours)] += 1
                if not _are_same(ours, theirs) and _is_repeated(runners, script):
                    differences += 1
                    print(f"sent {script.hex()}\n  compiled: {ours.hex()}\n  pure:     {theirs.hex()}")
        seconds = time.monotonic() - began_s
        tracebacks = sum(runner.log().count("Traceback") for runner in runners)
    shown = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
    print(f"seed {seed}: {attacks.broken:,} broken frames to both runners in {seconds:.0f} s; connections: {shown}")
    print(f"differences: {differences}; tracebacks in the logs: {tracebacks}")
    return not differences and not tracebacks


def _tokens(runner: RunnerProcess) -> tuple[int, int]:
    peer = runner.peer()
    try:
        return peer.prepare(("reads-all", "{}")), peer.prepare(("reads-all", "{}"), key=POST_RESP)
    finally:
        peer.socket.close()


def _transcripts(runner: RunnerProcess, scripts: Sequence[bytes]) -> list[bytes]:
    """
    Send each script over its own connection, close the sending side, and return the bytes that the runner sent until it closed the
    connection.
    """
    connections = []
    for script in scripts:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(os.fspath(runner.path))
        with suppress(BrokenPipeError, ConnectionResetError):  # the runner may close before it has read everything
            connection.sendall(script)
            connection.shutdown(socket.SHUT_WR)
        connections.append(connection)
    return [_received(connection) for connection in connections]


def _received(connection: socket.socket) -> bytes:
    """Return the bytes that the runner sends until it closes the connection. Raise TimeoutError if it does not close it."""
    received = b""
    with connection, suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            received += data
    return received


def _frames(received: bytes) -> list[bytes]:
    """Return the frames that a runner sent. New tokens are removed from them, because each runner chooses its own."""
    frames = []
    while received:
        end = HEADER_BYTES + int.from_bytes(received[1:HEADER_BYTES], "big")
        is_token = received[0] == FrameType.PREPARE_CONF
        frames.append(received[:HEADER_BYTES] if is_token else received[:end])
        received = received[end:]
    return frames


def _are_same(ours: bytes, theirs: bytes) -> bool:
    """
    Return True if both runners sent the same frames.

    A configuration is prepared in a thread, and the gateway may hang up before the thread has finished. Then one runner has sent fewer
    frames than the other, but the frames that it has sent are the same.
    """
    first, second = sorted((_frames(ours), _frames(theirs)), key=len)
    is_prepared = any(frame[0] == FrameType.PREPARE_CONF for frame in second)
    return first == second or (is_prepared and first == second[: len(first)])


def _is_repeated(runners: Sequence[RunnerProcess], script: bytes) -> bool:
    """
    Return True if a script gets different replies each time.

    A call waits while its chain is built. If the next frame arrives meanwhile, it violates the protocol before the call has sent its info
    request, so a single difference may depend on timing only.
    """
    return not any(_are_same(*(_transcripts(runner, [script])[0] for runner in runners)) for _ in range(REPEATS))


def _ending(received: bytes) -> str:
    """Return the kinds of frames that a runner sent, in their order."""
    return " + ".join(FrameType(frame[0]).name for frame in _frames(received)) or "closed without a frame"
