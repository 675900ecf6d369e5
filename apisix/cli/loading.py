# SPDX-License-Identifier: Apache-2.0
"""Load plugins for the commands `plugins`, `schema` and `check`."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import click

from apisix.cli.options.flags import CommandError
from apisix.cli.start import gather
from apisix.runner.errors import SettingsError
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import Problem

DEFAULT_PLUGINS = Path("plugins")
"""The directory in which `new` creates plugins, and from which `dev` loads them."""


def load_registry(flags: Mapping[str, object]) -> Registry:
    """
    Load the plugins that `start` would load with these flags. Warnings are printed to standard error as notes.

    If no directory is given, `plugins/` in the current directory is loaded, as by `dev`.

    Args: flags: the flags of the command line.
    Raises: CommandError: a setting is not correct.
    """
    try:
        settings = gather(flags, os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    # The command prints the problems itself, so they must not be logged too.
    log = logging.getLogger("apisix")
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
    log.propagate = False
    directories = settings.plugins
    if not directories and DEFAULT_PLUGINS.is_dir():
        directories = (str(DEFAULT_PLUGINS),)
        click.echo(
            f"note: {DEFAULT_PLUGINS}/ in the current directory is loaded; start loads it only with --plugins {DEFAULT_PLUGINS}", err=True
        )
    return Registry.load(directories, settings.plugin_modules)


class _Notes(logging.Handler):
    """Prints warnings of the log as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning."""
        if record.levelno == logging.WARNING:
            click.echo(f"note: {record.getMessage()}", err=True)


def problem_fields(problem: Problem) -> dict[str, object]:
    """Return the fields of a problem for JSON."""
    return {
        "file": problem.file,
        "line": problem.line,
        "entry_point": problem.entry_point,
        "plugin": problem.name,
        "reason": problem.reason,
        "advice": problem.advice,
    }
