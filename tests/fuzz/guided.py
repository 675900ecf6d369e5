# SPDX-License-Identifier: Apache-2.0
"""Run the wire layer under the coverage-guided fuzzer atheris, if it is installed (`pip install atheris`)."""

import importlib
import os
import sys
import tempfile
from pathlib import Path

INSTRUMENTED = ("apisix.runner.wire", "apisix.runner.errors")


def run(frames: int, seed: int) -> bool:
    """
    Let atheris make `frames` inputs from recorded frames and from what it learns. It ends the process, with the status 0 if no defect was
    found.
    """
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print("atheris is not installed: pip install atheris")
        return False
    os.environ["APISIX_RUNNER_PURE"] = "1"  # probes go into Python only
    for name in [name for name in sys.modules if name.startswith("apisix")]:
        del sys.modules[name]  # imported again below, with probes in them
    for name in [name for name in sys.modules if name in ("tests.fuzz.over_wire", "tests.wire.subjects", "tests.fuzz.mutations")]:
        del sys.modules[name]
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        over_wire = importlib.import_module("tests.fuzz.over_wire")
    role = importlib.import_module("apisix.runner.wire.connection").Role

    def take(data: bytes) -> None:
        """Process one input: its first byte selects the end and the state, and the rest is the stream."""
        if len(data) > 1:
            receiver = (role.RUNNER, role.GATEWAY)[data[0] & 1]
            ways = over_wire.WAYS[receiver]
            over_wire.feed(over_wire.prepared(receiver, ways[(data[0] >> 1) % len(ways)]), [data[1:]])

    with tempfile.TemporaryDirectory(prefix="corpus-") as corpus:
        for sender, chooser in ((role.GATEWAY, b"\0"), (role.RUNNER, b"\1")):
            for number, frame in enumerate(over_wire.seeds(sender)):
                (Path(corpus) / f"{sender.value}-{number}").write_bytes(chooser + frame)
        atheris.Setup([sys.argv[0], f"-runs={frames}", f"-seed={seed}", "-max_len=4096", "-print_final_stats=1", corpus], take)
        atheris.Fuzz()
    return True
