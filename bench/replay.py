# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.replay [CALLS]`: how long `apisix-runner replay` takes for calls of two examples."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from apisix.compiled import engine
from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.records.format import CallRecord, decode, encode
from apisix.testing import Client

EXAMPLES = Path(__file__).parent.parent / "examples" / "plugins"
PLUGINS = (
    ("key-auth", {"keys": ["alpha-alpha", "beta-beta"]}),
    ("request-body-rewrite", {"set": {"role": "guest"}, "remove": ["debug"]}),
)
KINDS = 100
"""How many different calls are recorded. The others have the same content with another id."""


def write(file: Path, calls: int) -> None:
    """Write records of calls. Two of three pass, and one is refused."""
    maker = RecordMaker()
    with Client([EXAMPLES]) as client:
        results = [
            client.post(
                f"/users?id={number}",
                headers={"x-api-key": "unknown-key" if number % 3 == 0 else "alpha-alpha", "user-agent": "bench"},
                json={"name": "ali", "debug": True, "items": list(range(20))},
                plugins=PLUGINS,
            )
            for number in range(KINDS)
        ]
        traces = [result._trace for result in results if result._trace is not None]
        records = [decode(maker.encode(trace)) for trace in traces]
        configuration = maker.encode_configuration(traces[0].chain)
    with file.open("wb") as lines:
        lines.write(configuration + b"\n")
        for number in range(calls):
            record = records[number % KINDS]
            assert isinstance(record, CallRecord)  # noqa: S101  # as written above
            lines.write(encode(msgspec.structs.replace(record, id=f"{number:032x}")) + b"\n")


def main(calls: int) -> int:
    """Print how long the command takes, from its start to its end."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "calls.jsonl"
        write(file, calls)
        command = [sys.executable, "-m", "apisix", "replay", str(file), "--plugins", str(EXAMPLES)]
        began_s = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took_s = time.monotonic() - began_s
        print(done.stdout.splitlines()[-1].partition(": ")[2] if done.stdout else done.stderr)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor_s = used.ru_utime + used.ru_stime
        print(f"{engine()}: {calls} calls of {file.stat().st_size / 1e6:.0f} MB took {took_s:.1f} s, {processor_s:.1f} s of processor time")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
