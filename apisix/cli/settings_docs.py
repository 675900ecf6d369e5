# SPDX-License-Identifier: Apache-2.0
"""
What is generated from the table of settings: `docs/reference/settings.md` and `apisix/config.yaml`.

`python -m apisix.cli.settings_docs` writes both; `make docs` calls it, and a test holds that they are up to date.
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

A setting comes from a flag of `apisix-runner start`, from the environment, or from the configuration file, and the first of
these that gives it rules. The file is the one that `--config` or the environment variable `APISIX_RUNNER_CONFIG` names. Where
none is named it is `conf/config.yaml` of the checkout, where that exists, and else `apisix/config.yaml`.

In the file, `$env.NAME` is the value of an environment variable; where that is not set, the setting has its default, and the
log says so. Durations are seconds, or as in `500ms`, `2s`, `1m`, `1h`. Sizes are bytes, or as in `64KiB`, `64MiB`, `2GiB`. Lists
are YAML lists in the file; a flag is repeated; in the environment, commas stand between names and colons between directories.
Relative paths start from the directory of the file, or from the current directory in a flag or the environment.

A key that is unknown or a value that is not allowed ends the start with exit status 2 and a sentence that names the place, the
key, and what is allowed. An environment variable that begins with `APISIX_RUNNER_` and is no setting does not end the start, since
orchestrators set variables of that form too: a warning in the log names it, and the nearest variable that exists.
"""

FILE_HEAD = f"""# {LICENSE}
# {GENERATED}
# Every setting with its default. Those that have none are commented out. docs/reference/settings.md says more.
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
            yield f"- Environment: {', then '.join(f'`{name}`' for name in row.variables)}."
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
