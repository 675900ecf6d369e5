# SPDX-License-Identifier: Apache-2.0
"""Copies of the checkout, which mutants may change."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LISTED = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
COPIED = ("apisix", "bench", "docs", "examples", "tests", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "setup.py", "bin")


@contextmanager
def copied_checkouts(count: int) -> Iterator[list[Path]]:
    """Yield copies of the sources and tests, without compiled modules, and make the first one the current directory."""
    listed = subprocess.run([*LISTED, *COPIED], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    paths = [path for path in listed.stdout.splitlines() if (CHECKOUT / path).is_file()]
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copies = [Path(name) / str(number) for number in range(count)]
        for copy in copies:
            for path in paths:
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / path, copy / path)
        os.chdir(copies[0])
        try:
            yield copies
        finally:
            os.chdir(before)
