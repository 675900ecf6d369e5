# SPDX-License-Identifier: Apache-2.0
"""
The command `health`: check that a runner replies.

A container's HEALTHCHECK starts it often. So modules whose import takes long are imported only if they are needed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Final

from apisix.cli.diagnosis.probe import probe
from apisix.cli.options.arguments import Flag, read_flags
from apisix.runner.errors import SettingsError

TIMEOUT_S: Final = "5"
"""The default time limit for the replies, in seconds."""
UNHEALTHY: Final = 1
"""The exit status if the runner is not healthy or a flag is wrong. Docker reserves 2."""
SOCKET_VARIABLES: Final = ("APISIX_RUNNER_SOCKET_FILE", "APISIX_LISTEN_ADDRESS")
"""The variables of this setting. They are repeated here, because importing the table of settings takes long."""

_FLAGS: Final = {
    "--config": Flag("config"),
    "--socket": Flag("socket_file"),
    "--timeout": Flag("timeout_s"),
    "--json": Flag("as_json", is_switch=True),
}


def read_arguments(arguments: Sequence[str]) -> dict[str, object] | None:
    """Return the flags of `health`, or None if this is another command or click must read the arguments."""
    if not arguments or arguments[0] != "health":
        return None
    return read_flags(arguments[1:], _FLAGS)


def health(flags: Mapping[str, object]) -> int:
    """Probe the runner, print a line, and return the exit status: 0 if it replies, 1 if not."""
    as_json = bool(flags.get("as_json"))
    try:
        timeout_s = _timeout_s(str(flags.get("timeout_s") or TIMEOUT_S))
        path = socket_path(flags, os.environ)
    except SettingsError as error:
        _print(is_healthy=False, sentence=str(error), fields={}, as_json=as_json)
        return UNHEALTHY
    result = probe(path, timeout_s)
    _print(
        is_healthy=result.is_healthy, sentence=result.sentence, fields={"socket": path, "took_s": round(result.took_s, 6)}, as_json=as_json
    )
    return 0 if result.is_healthy else UNHEALTHY


def socket_path(flags: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """
    Return the socket of a runner that was started with these flags and this environment.

    Raises: SettingsError: a setting is not correct.
    """
    if flags.get("socket_file"):
        return os.path.abspath(str(flags["socket_file"]).removeprefix("unix:"))
    given = next(filter(None, map(environ.get, SOCKET_VARIABLES)), "").removeprefix("unix:")
    if os.path.isabs(given):
        return given
    from apisix.cli.start import gather

    return gather(flags, environ).socket_file


def _timeout_s(text: str) -> float:
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < 1e6:
        raise SettingsError(f"--timeout is {text!r}, but must be a number of seconds greater than 0")
    return timeout_s


def _print(*, is_healthy: bool, sentence: str, fields: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": is_healthy, "message": sentence, **fields}))
    else:
        print(f"{'healthy' if is_healthy else 'unhealthy'}: {sentence}")
