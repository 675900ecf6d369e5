# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner plugins` and `apisix-runner schema`: what is loaded, and how it is configured."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from apisix.cli.flags import UsageFailure, setting_flags
from apisix.cli.start import gather
from apisix.runner.errors import SettingsError
from apisix.runner.plugin.plugin_type import PluginType, Problem
from apisix.runner.plugin.registry import Registry

# Where `new` writes plugins and `dev` looks for them.
DEFAULT_PLUGINS = Path("plugins")


def load_registry(flags: Mapping[str, object], *, default: bool = False) -> Registry:
    """
    Load the plugins that `start` would load with these flags, and note on standard error what may not be meant.

    Args: default: load `plugins/` of this directory if no directory is named, as `dev` does.
    Raises: UsageFailure: a setting is wrong.
    """
    try:
        settings = gather(flags, os.environ)
    except SettingsError as error:
        raise UsageFailure(str(error)) from error
    # The problems are shown by the command; its log would only say them twice.
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
    """Shows the warnings of the log as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        if record.levelno == logging.WARNING:
            click.echo(f"note: {record.getMessage()}", err=True)


@click.command()
@setting_flags(["plugins"])
@click.option("--json", "as_json", is_flag=True, help="For tools.")
def plugins(as_json: bool, **flags: object) -> None:
    """
    Show the plugins that routes may name: where they come from, their hooks, and what they do.

    The exit status is 0 where all were loaded, 1 where some were refused, and 2 where a setting is wrong.
    """
    registry = load_registry(flags)
    if as_json:
        shown = {"plugins": [_fields(found) for found in registry.types], "problems": [problem_fields(each) for each in registry.problems]}
        click.echo(json.dumps(shown, indent=2))
    else:
        for found in registry.types:
            click.echo(f"{found.name}  {found.api.name}  {', '.join(found.hooks)}  {found.source}")
            if found.doc:
                click.echo(f"    {found.doc}")
        for problem in registry.problems:
            click.echo(f"refused: {problem}", err=True)
    sys.exit(1 if registry.problems else 0)


@click.command()
@click.argument("name")
@setting_flags(["plugins"])
def schema(name: str, **flags: object) -> None:
    """Show the JSON Schema of the configuration that the plugin NAME takes."""
    registry = load_registry(flags)
    found = registry.get(name)
    if isinstance(found, Problem):
        raise click.ClickException(f"{name} could not be loaded: {found}")
    if found is None:
        near = registry.suggest(name)
        raise click.ClickException(f"there is no plugin {name}" + (f"; did you mean {near}?" if near else ""))
    click.echo(json.dumps(found.config_schema(), indent=2))


def _fields(found: PluginType) -> dict[str, object]:
    return {
        "name": found.name,
        "api": found.api.name,
        "hooks": list(found.hooks),
        "file": found.source.file,
        "line": found.source.line,
        "entry_point": found.source.entry_point,
        "doc": found.doc,
    }


def problem_fields(problem: Problem) -> dict[str, object]:
    """Return what a tool is told of a plugin that could not be loaded."""
    return {
        "file": problem.file,
        "line": problem.line,
        "entry_point": problem.entry_point,
        "plugin": problem.name,
        "reason": problem.reason,
        "advice": problem.advice,
    }
