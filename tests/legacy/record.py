# SPDX-License-Identifier: Apache-2.0
"""
Record what a real release does with the cases: `python -m tests.legacy.record 0.2.0 CHECKOUT PYTHON`.

CHECKOUT is a work tree of github.com/apache/apisix-python-plugin-runner at the tag of the release. PYTHON is an interpreter with the
requirements of the release installed. The release runs on a unix socket, as its documentation describes, with the plugins of a case.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.legacy.cases import CASES, RELEASE_02, Case
from tests.legacy.outcomes import Outcome, outcomes
from tests.peer import Peer

RECORDED = Path(__file__).with_name("recorded.json")
START = {"0.1.0": ("apisix/main.py", "start"), RELEASE_02: ("bin/py-runner", "start")}


def record(case: Case, checkout: Path, python: str) -> list[Outcome]:
    """Run a case on a new copy of the release."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "release"
        shutil.copytree(checkout, root)
        plugins = root / "apisix" / "plugins"
        for sample in ("stop.py", "rewrite.py"):
            (plugins / sample).unlink()
        for stem, text in case.plugins.items():
            (plugins / f"{stem}.py").write_text(text, encoding="utf-8")
        socket = Path(directory) / "socket"
        environment = {**os.environ, "PYTHONPATH": str(root), "APISIX_LISTEN_ADDRESS": f"unix:{socket}"}
        process = subprocess.Popen(
            [python, str(root / START[case.release][0]), "start"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for(socket, process)
            return outcomes(case, lambda: Peer(socket, timeout_s=3.0))
        finally:
            process.kill()
            process.wait()


def _wait_for(socket: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            Peer(socket).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the release does not listen on {socket}")


def main(release: str, checkout: str, python: str) -> None:
    """Record all cases of a release. The recordings of other releases are kept."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    recorded[release] = {case.name: record(case, Path(checkout), python) for case in CASES if case.release == release}
    RECORDED.write_text(json.dumps(recorded, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
