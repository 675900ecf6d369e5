# SPDX-License-Identifier: Apache-2.0
"""
Measure building and installing the accelerator: with a compiler and without one (`CC=false`).

Builds a wheel of the checkout, including uncommitted changes, in a copy of it, and installs the wheel into a new environment.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.files import HERE, CannotMeasure
from bench.modes import COMPILED, PURE
from bench.part import Scale, Target, note
from bench.processes import scratch

KIB = 2**10
TIMEOUT_S = 600.0
LISTED = ["git", "ls-files"]
WAYS: dict[str, dict[str, str]] = {COMPILED: {}, PURE: {"CC": "false"}}


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Build and install both ways. This takes some minutes, and needs an index to install from. The smoke version builds nothing."""
    found: dict[str, Any] = {}
    if scale.smoke:
        return {"ways": found}
    with scratch() as directory:
        source = _copy_of_the_checkout(directory / "source")
        for name in wanted or WAYS:
            found[name] = _build(name, source, directory)
            note(f"build, {name}: {found[name]}")
    return {"ways": found}


def _copy_of_the_checkout(to: Path) -> Path:
    listed = subprocess.run(LISTED, capture_output=True, text=True, cwd=HERE.parent, check=True).stdout
    for name in listed.splitlines():
        if (HERE.parent / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE.parent / name, to / name)
    return to


def _build(name: str, source: Path, directory: Path) -> dict[str, Any]:
    wheels, environment = directory / f"wheels-{name}", directory / f"venv-{name}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    shutil.rmtree(source / "build", ignore_errors=True)
    built_s = _timed([*pip, "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(wheels), str(source)], WAYS[name])
    (wheel,) = wheels.glob("*.whl")
    _timed([sys.executable, "-m", "venv", str(environment)], {})
    python = str(environment / "bin" / "python")
    with_libraries_s = _timed([python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", str(wheel)], {})
    installed_s = _timed(
        [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps", "--force-reinstall", str(wheel)], {}
    )
    said = subprocess.run([str(environment / "bin" / "apisix-runner"), "--version"], capture_output=True, text=True, check=True)
    expected = f"({COMPILED})" if name == COMPILED else f"({PURE} Python"
    if expected not in said.stdout:
        raise CannotMeasure(f"What was installed should say {expected!r} and says {said.stdout!r}.")
    package = next((environment / "lib").glob("python3.*/site-packages/apisix"))
    return {
        "wheel": wheel.name,
        "wheel_kib": round(wheel.stat().st_size / KIB),
        "installed_kib": round(sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) / KIB),
        "compiled_kib": round(sum(file.stat().st_size for file in package.rglob("*.so")) / KIB),
        "build_s": round(built_s, 1),
        "install_s": round(installed_s, 2),
        "install_with_libraries_s": round(with_libraries_s, 1),
        "version": said.stdout.strip(),
    }


def _timed(command: Sequence[str], environment: dict[str, str]) -> float:
    begin = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, cwd="/", timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise CannotMeasure(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.monotonic() - begin


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    if not result["ways"]:
        return "Not built."
    rows = {
        "wheel": "{wheel_kib:,} KiB",
        "installed, with bytecode": "{installed_kib:,} KiB",
        "compiled modules in that": "{compiled_kib:,} KiB",
        "building the wheel from source": "{build_s} s",
        "installing the wheel": "{install_s} s",
        "installing the wheel and its libraries": "{install_with_libraries_s} s",
        "`apisix-runner --version`": "{version}",
    }
    names = {COMPILED: "with a compiler", PURE: "without (`CC=false`)"}
    lines = ["| |" + "".join(f" {names[name]} |" for name in result["ways"]), "|---|" + "---:|" * len(result["ways"])]
    lines += [f"| {what} |" + "".join(f" {text.format(**way)} |" for way in result["ways"].values()) for what, text in rows.items()]
    return "\n".join(lines)


def targets(result: dict[str, Any]) -> list[Target]:
    """Return nothing: there is no target."""
    return []


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the sizes."""
    for number, (what, label) in enumerate((("wheel_kib", "wheel"), ("installed_kib", "installed"))):
        ways = result["ways"]
        axes.bar([place + 0.4 * number for place in range(len(ways))], [way[what] for way in ways.values()], 0.38, label=label)
    axes.set_xticks([place + 0.2 for place in range(len(result["ways"]))], list(result["ways"]))
    axes.set_ylabel("KiB")
    axes.legend(fontsize="small")
