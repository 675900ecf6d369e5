# SPDX-License-Identifier: Apache-2.0
"""Generate the oracle's Python code: `python tests/oracle/generate.py` writes the folder A6 from ext-plugin.fbs."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCHEMA = HERE / "ext-plugin.fbs"
LICENCE = "# SPDX-License-Identifier: Apache-2.0\n"


def generate(target: Path) -> None:
    """Run flatc, of the same environment as this Python, and put the licence on top of each file."""
    subprocess.run([Path(sys.executable).with_name("flatc"), "--python", "-o", target, SCHEMA], check=True)
    for path in target.glob("A6/**/*.py"):
        path.write_text(LICENCE + path.read_text())


if __name__ == "__main__":
    generate(HERE)
