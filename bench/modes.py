# SPDX-License-Identifier: Apache-2.0
"""The ways in which the runner can run: compiled or pure, and on which Python."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apisix.compiled import VARIABLE, why_pure
from bench.files import HERE, CannotMeasure

COMPILED, PURE = "compiled", "pure"
_NEWER = (".venv-3.13", ".venv-3.12")


@dataclass(frozen=True)
class Mode:
    """A Python that runs the runner, and its environment."""

    name: str
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    def variables(self) -> dict[str, str]:
        """Return the whole environment of a process in this mode."""
        # If bytecode is not written, each start compiles all sources again, which does not happen in an installation.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | dict(self.environment)


AS_IT_IS = Mode("as-it-is")
"""This Python and this environment."""


def modes(wanted: Sequence[str] = (COMPILED, PURE)) -> list[Mode]:
    """
    Return the modes that this checkout can run in.

    Raises: CannotMeasure: no wanted mode is available. `make build` compiles the checkout.
    """
    found = []
    if COMPILED in wanted and (os.environ.get(VARIABLE) or why_pure() is None):
        # Where the variable is set, the modules may be there all the same.
        compiled = Mode(COMPILED, environment={VARIABLE: ""})
        if _says_compiled(compiled):
            found.append(compiled)
    if PURE in wanted:
        found.append(Mode(PURE, environment={VARIABLE: "1"}))
    if not found:
        raise CannotMeasure(f"The checkout can't run {' or '.join(wanted)}: {why_pure()}")
    return found


def newer_python() -> Mode | None:
    """
    Return a mode on Python 3.12 or later, preferably compiled, or None if there is none.

    Such a Python starts coroutines eagerly. `make build VENV=.venv-3.13 PYTHON=python3.13` makes the environment and compiles for it.
    """
    if sys.version_info >= (3, 12):
        return None  # every mode is one
    for directory in _NEWER:
        python = HERE.parent / directory / "bin" / "python"
        if python.exists():
            mode = Mode("newer", str(python), {VARIABLE: ""})
            return Mode(f"{_python_version(python)}, {COMPILED if _says_compiled(mode) else PURE}", mode.python, mode.environment)
    return None


def _says_compiled(mode: Mode) -> bool:
    done = subprocess.run(
        [mode.python, "-m", "apisix", "--version"],
        capture_output=True,
        text=True,
        env=mode.variables(),
        cwd=HERE.parent,
        check=False,
    )
    return "(compiled)" in done.stdout


def _python_version(python: Path) -> str:
    done = subprocess.run([str(python), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+", done.stdout)
    return f"Python {found[0]}" if found else str(python)
