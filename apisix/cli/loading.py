# SPDX-License-Identifier: Apache-2.0
"""Load plugins for the commands `plugins`, `schema` and `check`."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import click

from apisix.cli.options.flags import UsageFailure
from apisix.cli.start import gather
from apisix.runner.errors import SettingsError
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import Problem

DEFAULT_PLUGINS = Path("plugins")
"""Where `new` creates plugins and `dev` looks for them."""


def load_registry(flags: Mapping[str, object], *, default: bool = False) -> Registry:
    """
    Load the plugins that `start` would load with these flags. Warnings are printed to standard error as notes.

    Args:
        flags: the flags of the command line.
        default: whether to load `plugins/` of this directory if no directory is named, as `dev` does.
    Raises: UsageFailure: a setting is wrong.
    """
    try:
        settings = gather(flags, os.environ)
    except SettingsError as error:
        raise UsageFailure(str(error)) from error
    # The command prints the problems itself, so they must not be logged too.
    log = logging.getLogger("apisix")
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
    log.propagate = False
    directories = settings.plugins
    if not directories and DEFAULT_PLUGINS.is_dir():
        if default:
            directories = (str(DEFAULT_PLUGINS),)
            click.echo(f"note: {DEFAULT_PLUGINS}/ of this directory is loaded; start needs --plugins {DEFAULT_PLUGINS} for that", err=True)
        else:
            click.echo(f"note: {DEFAULT_PLUGINS}/ of this directory is not loaded; --plugins {DEFAULT_PLUGINS} does that", err=True)
    return Registry.load(directories, settings.plugin_modules)


class _Notes(logging.Handler):
    """Prints warnings of the log as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning."""
        if record.levelno == logging.WARNING:
            click.echo(f"note: {record.getMessage()}", err=True)


def problem_fields(problem: Problem) -> dict[str, object]:
    """Return the problem of a plugin that could not be loaded, for tools."""
    return {
        "file": problem.file,
        "line": problem.line,
        "entry_point": problem.entry_point,
        "plugin": problem.name,
        "reason": problem.reason,
        "advice": problem.advice,
    }
