# SPDX-License-Identifier: Apache-2.0
"""The flags of settings, for the commands that have them."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

from apisix.runner.settings.kinds import SWITCH
from apisix.runner.settings.table import SETTINGS


class CommandError(click.ClickException):
    """Raised if a command can't run because of a setting or a file. The exit status is 2, as for click's own errors."""

    exit_code = 2


F = TypeVar("F", bound=Callable[..., Any])


def setting_flags(names: Collection[str] | None = None) -> Callable[[F], F]:
    """Add `--config` and the flags of the named settings to a command. By default, all flags are added."""

    def decorate(command: F) -> F:
        for row in reversed(SETTINGS):
            if not row.flag or (names is not None and row.name not in names):
                continue
            if row.kind is SWITCH:
                option = click.option(row.flag, row.name, is_flag=True, help=row.help)
            else:
                is_list = row.kind.separator is not None
                help_ = f"{row.help} May be repeated." if is_list else row.help
                option = click.option(row.flag, row.name, metavar=row.metavar, multiple=is_list, help=help_)
            command = option(command)
        return click.option("--config", metavar="FILE", help="The configuration file.  [env var: APISIX_RUNNER_CONFIG]")(command)

    return decorate
