# SPDX-License-Identifier: Apache-2.0
"""Load the settings from flags, environment variables and the configuration file, and check their values."""

import os.path
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from apisix.runner.errors import SettingsError
from apisix.runner.settings.kinds import SOCKET, Given
from apisix.runner.settings.plain_yaml import read_plain
from apisix.runner.settings.table import PREFIX, SETTINGS, Setting, Settings

OTHER_VARIABLES = frozenset({"APISIX_RUNNER_CONFIG", "APISIX_RUNNER_PURE", "APISIX_RUNNER_ACCELERATE", "APISIX_RUNNER_BUILD"})
"""Variables with the prefix `APISIX_RUNNER_` that are not settings. Other modules and `setup.py` read them."""
# Kubernetes sets these in each container if there is a service named apisix-runner.
# Source: its documentation of services, "environment variables".
_OF_KUBERNETES = re.compile(
    r"APISIX_RUNNER_(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
FROM_FILE = "file:"
"""The prefix of a value that names the file which contains the value."""
MAX_VALUE_BYTES = 65_536
"""The size limit for such a file, so that the wrong file is not read into memory."""


def load(config_file: Path | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """
    Load the settings. A flag takes precedence over the environment, the environment over the file, and the file over the default.

    Args:
        config_file: the file to read, or None.
        flags: the values of the command line, by the name of the field. None, False and () mean that the flag was not given.
        environ: the environment variables. An empty variable counts as not set.
    Raises: SettingsError: a key is unknown, or a value is not allowed.
    """
    in_file = {} if config_file is None else _read_file(config_file)
    values: dict[str, Any] = {}
    notes: list[str] = []
    for row in SETTINGS:
        given = _flag(row, flags.get(row.name)) or _variable(row, environ)
        from_file = in_file.get(row.key)
        if from_file is not None:
            resolved = _resolve(row, from_file, environ)
            if resolved is not None:
                values[row.name] = _value(row, resolved)
            elif given is None:
                notes.append(
                    f"{from_file.where}: {row.key} is {from_file.text}, which is not set, so the default {_shown(row.default)} is used"
                )
        if given is not None:
            replaced = values.get(row.name)
            value = values[row.name] = _value(row, given)
            # The gateway sets this variable itself, so the author of the file may not expect that it takes precedence.
            if from_file is not None and replaced not in (None, value) and given.where == _where(row.environment):
                hidden = resolved is not None and resolved.is_hidden
                shown = _shown(from_file.text) if hidden else _shown(replaced)
                notes.append(f"{row.key} is {_shown(value)} from {given.where}, and not {shown} from {from_file.where}")
    notes += _unknown_variables(environ)
    return Settings(**values, notes=tuple(notes))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Yield a note for each variable with the prefix that is not a setting. It contains the most similar name, if there is one.

    Such variables are not refused, because an orchestrator may set variables with this prefix for its own purposes.
    """
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in OTHER_VARIABLES)
    if not unknown:
        return
    known = [row.variables[0] for row in SETTINGS]
    words = [variable.removeprefix(PREFIX) for variable in (*known, *sorted(OTHER_VARIABLES))]
    for name in unknown:
        if name not in known and not _OF_KUBERNETES.fullmatch(name):
            from difflib import get_close_matches  # imported late, because it is rarely needed

            near = get_close_matches(name.removeprefix(PREFIX), words, n=1, cutoff=0.6)
            advice = f"did you mean {PREFIX}{near[0]}?" if near else "docs/reference/settings.md lists the variables of settings"
            yield f"environment variable {name} has no effect, because there is no setting of that name; {advice}"


def default_config_file() -> Path:
    """
    Return the configuration file that is read if none is given.

    It is `conf/config.yaml` of a checkout, as in release 0.2, or if this does not exist, `apisix/config.yaml`.
    """
    package = Path(__file__).resolve().parent.parent.parent
    of_release_02 = package.parent / "conf" / "config.yaml"
    # Beside an installed package, a directory `conf` would belong to another program.
    is_checkout = (package.parent / "bin" / "py-runner").exists()
    return of_release_02 if is_checkout and of_release_02.exists() else package / "config.yaml"


def _read_file(path: Path) -> dict[str, Given]:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SettingsError(
            f"the configuration file {path} is a pipe or a device, but must be a regular file, because each reload reads it again"
        )
    keys = [row.key for row in SETTINGS]
    plain = read_plain(path, keys)
    if plain is not None:
        return plain
    from apisix.runner.settings.file import read_file  # imported late, because it imports PyYAML, which is rarely needed

    return read_file(path, keys)


def _flag(row: Setting, value: object) -> Given | None:
    if value is None or value is False or value == ():
        return None
    base = str(Path.cwd())
    if isinstance(value, (tuple, list)):
        return Given(tuple(str(item) for item in value), row.flag, base)
    text = str(value)
    if row.kind is SOCKET:  # on the command line, a relative path refers to the current directory
        text = str(Path(base, text.removeprefix("unix:")))
    return Given(text, row.flag, base)


def _variable(row: Setting, environ: Mapping[str, str]) -> Given | None:
    for name in row.variables:
        if text := environ.get(name):
            return _read_value(row, Given(text, _where(name), str(Path.cwd())))
    return None


def _where(variable: str) -> str:
    return f"environment variable {variable}"


def _resolve(row: Setting, given: Given, environ: Mapping[str, str]) -> Given | None:
    """Replace `$env.NAME` with that variable, and then `file:` as `_read_value` does. Return None if the variable is not set or empty."""
    if isinstance(given.text, str) and given.text.startswith("$env."):
        name = given.text.removeprefix("$env.")
        text = environ.get(name)
        if not text:
            return None
        given = Given(text, f"{given.where}, environment variable {name}", given.base)
    return _read_value(row, given)


def _read_value(row: Setting, given: Given) -> Given:
    """Replace `file:PATH` with the content of that file, without one newline at its end. A list can have such items."""
    if isinstance(given.text, str):
        if not given.text.startswith(FROM_FILE):
            return given
        return Given(_content(row, given, given.text), f"{given.where}, {given.text}", given.base, is_hidden=True)
    if not any(item.startswith(FROM_FILE) for item in given.text):
        return given
    texts = tuple(_content(row, given, item) if item.startswith(FROM_FILE) else item for item in given.text)
    return Given(texts, given.where, given.base, is_hidden=True)


def _content(row: Setting, given: Given, text: str) -> str:
    path = Path(given.base, text.removeprefix(FROM_FILE))
    if not os.path.isfile(path):  # a directory, a device, or a pipe, which would block
        reason = "there is no such file" if not os.path.lexists(path) else "this is not a regular file, or it can't be accessed"
        raise SettingsError(f"{given.where}: {row.key} is to be read from {path}, but {reason}")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_VALUE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{given.where}: {row.key} can't be read from {path}: {error.strerror or error}") from error
    if len(content) > MAX_VALUE_BYTES:
        raise SettingsError(f"{given.where}: {row.key} can't be read from {path}, because it has more than {MAX_VALUE_BYTES} bytes")
    try:
        return content.decode().removesuffix("\n")
    except UnicodeError:  # its text contains the value
        raise SettingsError(f"{given.where}: {row.key} can't be read from {path}, because it is not UTF-8") from None


def _value(row: Setting, given: Given) -> Any:
    kind = row.kind
    try:
        raw: object
        if kind.separator is not None:
            texts = given.text if isinstance(given.text, tuple) else tuple(filter(None, map(str.strip, given.text.split(kind.separator))))
            raw = tuple(kind.read(text, given.base) for text in texts)
        elif isinstance(given.text, tuple):
            raise ValueError
        else:
            raw = kind.read(given.text, given.base)
        return msgspec.convert(raw, row.type, strict=False)
    except ValueError:  # msgspec's ValidationError is one too
        if given.is_hidden:
            raise SettingsError(f"{given.where}: the value of {row.key} in the file is not allowed; it must be {row.allowed}") from None
        if kind.is_secret:
            raise SettingsError(f"{given.where}: the value of {row.key} is not allowed; it must be {row.allowed}") from None
        raise SettingsError(f"{given.where}: {row.key} is {_shown(given.text)}, but must be {row.allowed}") from None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return repr(value) if isinstance(value, str) else str(value)
