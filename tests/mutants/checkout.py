# SPDX-License-Identifier: Apache-2.0
"""A copy of the checkout, which mutants may change."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LISTED = ["git", "ls-files"]
COPIED = ("apisix", "bench", "docs", "examples", "tests", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "setup.py", "bin")


@contextmanager
def copied_checkout() -> Iterator[Path]:
    """Yield a copy of what is tracked by git, with its bytecode, and make it the current directory and the first on the path of Python."""
    listed = subprocess.run([*LISTED, *COPIED], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name)
        for path in listed.stdout.splitlines():
            if (CHECKOUT / path).is_file():
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / path, copy / path)
        # Cosmic Ray lets the tests write no bytecode, so they would compile all sources again each time.
        subprocess.run([sys.executable, "-m", "compileall", "-q", "apisix", "tests"], cwd=copy, check=False)
        os.environ |= {"PYTHONPATH": name, "APISIX_RUNNER_PURE": "1"}
        os.chdir(copy)
        try:
            yield copy
        finally:
            os.chdir(before)
