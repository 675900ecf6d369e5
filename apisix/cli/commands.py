# SPDX-License-Identifier: Apache-2.0
"""The commands and their flags, as click shows and reads them."""

import sys
from collections.abc import Callable
from typing import Any

import click

from apisix import __version__
from apisix.runner.setting_kinds import SWITCH
from apisix.runner.settings import SETTINGS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flag of every setting that has one, and `--config`."""
    for row in reversed([row for row in SETTINGS if row.flag]):
        help_ = row.help if row.kind.separator is None else f"{row.help} May stand several times."
        if row.kind is SWITCH:
            option = click.option(row.flag, row.name, is_flag=True, help=help_)
        else:
            option = click.option(row.flag, row.name, metavar=row.metavar, multiple=row.kind.separator is not None, help=help_)
        command = option(command)
    return click.option("--config", metavar="FILE", help="The configuration file.")(command)


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="apisix-runner")
def commands() -> None:
    """Run Apache APISIX plugins that are written in Python."""


@commands.command()
@setting_flags
def start(**flags: object) -> None:
    """Serve the gateway, until SIGTERM or Ctrl-C."""
    from apisix.cli.start import start as run

    sys.exit(run(flags))
