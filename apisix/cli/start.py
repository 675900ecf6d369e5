# SPDX-License-Identifier: Apache-2.0
"""The command `start`: read the settings and run the supervisor."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from apisix.cli.options.arguments import Flag, read_flags
from apisix.runner.errors import SettingsError
from apisix.runner.settings.kinds import SWITCH
from apisix.runner.settings.loading import default_config_file, load
from apisix.runner.settings.table import SETTINGS, Settings

CONFIG_VARIABLE = "APISIX_RUNNER_CONFIG"


def read_arguments(arguments: Sequence[str]) -> dict[str, object] | None:
    """
    Read the arguments of `start` if they consist only of known flags and their values.

    Returns: the values by the names of the settings, or None if this is another command or click must read the arguments.
    """
    if not arguments or arguments[0] != "start":
        return None
    known = {row.flag: Flag(row.name, row.kind is SWITCH, row.kind.separator is not None) for row in SETTINGS if row.flag}
    return read_flags(arguments[1:], {**known, "--config": Flag("config")})


def gather(flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """
    Load the settings from the file in the flags or the environment, or from the default file.

    Raises: SettingsError: as `load`.
    """
    named = flags.get("config") or environ.get(CONFIG_VARIABLE)
    return load(Path(str(named)) if named else default_config_file(), flags, environ)


def start(flags: Mapping[str, object]) -> int:
    """Run the supervisor until it stops. Returns: the exit status, which is 2 if a setting is not correct."""
    _open_missing_streams()
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        print("apisix-runner: free-threaded Python is supported only with the GIL; set PYTHON_GIL=1", file=sys.stderr)
        return 2
    try:
        settings = gather(flags, os.environ)
        from apisix.runner.supervisor.supervisor import run  # imported late, because it is not needed if a setting is wrong

        return run(settings)
    except SettingsError as error:
        print(f"apisix-runner: {error}", file=sys.stderr)
        return 2


def _open_missing_streams() -> None:
    """Open /dev/null for each closed descriptor from 0 to 2. Otherwise a socket could get its number and receive output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # open until the process ends, like the others
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
