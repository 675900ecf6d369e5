# SPDX-License-Identifier: Apache-2.0
"""The origin of figures: the machine, the versions, the commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from apisix.compiled import why_pure
from bench.files import HERE


def machine() -> dict[str, Any]:
    """Return a description of the machine, the versions and the commit."""
    lines = _read("/proc/cpuinfo").splitlines()
    return {
        "cpu": next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": metadata.version("uvloop"),
        "greenlet": metadata.version("greenlet"),
        "compiled": why_pure() or "yes",  # what runs where nothing else is said; rows name their own mode
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        # Other people's work on the same cores, seen before ours began: above 0.5, read the figures with care.
        "load_before": round(os.getloadavg()[0], 2),
    }


def in_words(described: dict[str, Any]) -> str:
    """Return `machine` as a sentence."""
    return (
        f"{described['cores']} cores of an {described['cpu']}, Linux {described['kernel']}, Python {described['python']}, "
        f"uvloop {described['uvloop']}, greenlet {described['greenlet']}, commit {described['commit']}, {described['date']}, "
        f"load average {described['load_before']} before it began"
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _commit() -> str:
    """Return the commit, with "-dirty" if files other than results and pages have uncommitted changes."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=9"]
    changed = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!docs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=False)
    dirty = subprocess.run(changed, capture_output=True, text=True, cwd=HERE.parent, check=False)
    return done.stdout.strip() + ("-dirty" if dirty.stdout.strip() else "")
