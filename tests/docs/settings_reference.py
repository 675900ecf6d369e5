# SPDX-License-Identifier: Apache-2.0
"""
Write `docs/reference/settings.md` and `apisix/config.yaml` from the table of settings.

`make docs` calls `python -m tests.docs.settings_reference`. A test checks that both files are up to date.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import wrap

from apisix.runner.settings.kinds import SIZE
from apisix.runner.settings.table import SETTINGS, Setting

LICENSE = "SPDX-License-Identifier: Apache-2.0"
GENERATED = "Generated from apisix/runner/settings/table.py by `make docs`."

PAGE_HEAD = f"""<!-- {LICENSE} -->
<!-- {GENERATED} -->
# Settings

A setting can be given by a flag of `apisix-runner start`, by an environment variable, or in the configuration file. If it is given
more than once, the flag has priority over the variable, and the variable over the file. [Configure the runner](../guides/configure.md)
explains the most important settings.

**The file.** The path is given by `--config` or by the environment variable `APISIX_RUNNER_CONFIG`. By default it is `conf/config.yaml`
of the checkout, if that exists, and otherwise `apisix/config.yaml`. A value `$env.NAME` is replaced by the environment variable `NAME`.
If the variable is not set, the setting has its default value, and the log has a note.

**Values in files.** If a value in the configuration file or in an environment variable begins with `file:`, the rest is the path of a
file that contains the value, such as `file:/run/secrets/metrics-address`. One newline at the end of the file is removed. The file can have
up to 64 KiB of UTF-8. It is read whenever the settings are: at the start, and when a second runner takes over. SIGHUP does not read
settings. If the file can't be read or its value is not allowed, the runner exits with status 2. The message contains the setting and the
path, but not the value. In a YAML list, each item can be `file:` and a path. Flags are used as they are given. Write `./file:` for a
relative path that begins with `file:`.

**Values.** Durations are seconds, or have a unit: `500ms`, `2s`, `1m`, `1h`. Sizes are bytes, or have a unit: `64KiB`, `64MiB`, `2GiB`.
Lists are YAML lists in the file. On the command line, repeat the flag. In an environment variable, separate names by commas and
directories by colons. Relative paths in the file start at the directory of the file. All others start at the current directory.

**Errors.** If a key is unknown or a value is not allowed, the runner exits with status 2, and the message names the key and the
allowed values. An unknown environment variable that begins with `APISIX_RUNNER_` is only a warning, because orchestrators set such
variables too.
"""

FILE_HEAD = f"""# {LICENSE}
# {GENERATED}
# Every setting with its default value. Settings without a default are commented out. See docs/reference/settings.md.
"""


def page() -> str:
    """Return docs/reference/settings.md."""
    return "\n".join([PAGE_HEAD, *_sections()])


def config_file() -> str:
    """Return apisix/config.yaml."""
    lines = [FILE_HEAD]
    for section, rows in groupby(SETTINGS, _section):
        lines.append(f"{section}:")
        for row in rows:
            lines += [f"  # {line}" for line in wrap(f"{row.help} {_default_in_words(row)}".strip(), 120)]
            lines += [f"  # {line}" for line in wrap(f"Must be {row.allowed}.", 120)]
            lines.append(_in_file(row))
        lines.append("")
    return "\n".join(lines)


def _sections() -> Iterator[str]:
    for section, rows in groupby(SETTINGS, _section):
        yield f"## {section}\n"
        for row in rows:
            yield f"### `{row.key}`\n"
            yield f"{row.help}\n"
            yield f"- Must be {row.allowed}."
            yield f"- Default: {row.unset or '`' + _shown(row) + '`'}{_unit(row)}."
            yield f"- Environment: {' or '.join(f'`{name}`' for name in row.variables)}."
            if row.flag:
                yield f"- Flag: `{' '.join(filter(None, (row.flag, row.metavar)))}`."
            yield ""


def _section(row: Setting) -> str:
    return row.key.partition(".")[0]


def _unit(row: Setting) -> str:
    return f" {row.kind.unit}" if row.kind.unit and not row.unset and row.kind is not SIZE else ""


def _default_in_words(row: Setting) -> str:
    return f"Default: {row.unset}." if row.unset else ""


def _in_file(row: Setting) -> str:
    name = row.key.partition(".")[2]
    if row.name == "socket_file":  # as documented ever since: what the gateway gives, else the default
        return f"  {name}: $env.{row.variables[-1]}"
    if row.default is None:
        return f"  # {name}:"
    return f"  {name}: {_shown(row)}"


def _shown(row: Setting) -> str:
    """Return the default as it would be written in the file."""
    value = row.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if row.kind is SIZE and value and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    return f"{value:g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Write both files of this checkout."""
    checkout = Path(__file__).resolve().parent.parent.parent
    (checkout / "docs" / "reference" / "settings.md").write_text(page(), encoding="utf-8")
    (checkout / "apisix" / "config.yaml").write_text(config_file(), encoding="utf-8")


if __name__ == "__main__":
    main()
