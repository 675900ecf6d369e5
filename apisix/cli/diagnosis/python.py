# SPDX-License-Identifier: Apache-2.0
"""Examine the Python interpreter and its installed libraries."""

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import Final

from apisix import __version__, compiled
from apisix.cli.diagnosis.result import Results, ok, problem
from apisix.runner.settings.table import Settings

DISTRIBUTION: Final = "apisix-python-plugin-runner"
OLDEST: Final = (3, 11)

_MODULES: Final = {"pyyaml": "yaml", "prometheus-client": "prometheus_client"}
"""Names of modules that differ from the name of their distribution."""
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)[^;]*?(?:>=\s*([0-9.]+))?\s*(?:;(.*))?")


def examine_python(settings: Settings) -> Results:
    """Examine the version of Python, and the libraries that the runner's metadata requires."""
    found = f"Python {platform.python_version()}, {sys.executable}; runner {__version__} ({compiled.engine()})"
    if sys.version_info < OLDEST:
        yield problem("python", found, f"The runner needs Python {'.'.join(map(str, OLDEST))} or later")
    else:
        yield ok("python", found)
    try:
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # a checkout that was copied into an image, with its libraries installed separately
        requirements = ["click", "greenlet", "msgspec", "multidict", "PyYAML", "structlog", "uvloop"]
    extras = {"metrics"} if settings.metrics_address else set()
    yield from examine_libraries(requirements, extras)


def examine_libraries(requirements: list[str], extras: set[str]) -> Results:
    """
    Check that libraries are installed and new enough.

    Args:
        requirements: requirements as in the metadata, such as `uvloop>=0.21; extra == "x"`.
        extras: the extras that are used.
    """
    present = []
    wanted = DISTRIBUTION + (f"[{','.join(sorted(extras))}]" if extras else "")
    install = f"Install what the runner needs: pip install '{wanted}'"
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None or not _applies(match[3], extras):
            continue
        name, oldest = match[1], match[2]
        if find_spec(_MODULES.get(name.lower(), name.lower().replace("-", "_"))) is None:
            yield problem("python", f"{name} is not installed", install)
            continue
        installed = _version(name)
        if oldest and installed and _numbers(installed) < _numbers(oldest):
            yield problem("python", f"{name} {installed} is older than {oldest}", install)
        present.append(f"{name} {installed}".strip())
    yield ok("python", ", ".join(present))


def _applies(marker: str | None, extras: set[str]) -> bool:
    return marker is None or any(f"extra == {quote}{extra}{quote}" in marker for extra in extras for quote in "'\"")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
