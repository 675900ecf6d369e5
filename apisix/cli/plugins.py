# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner plugins` and `apisix-runner schema`: the plugins that are loaded, and how they are configured."""

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


@click.command()
@setting_flags(["plugins"])
@click.option("--json", "as_json", is_flag=True, help="For tools.")
def plugins(as_json: bool, **flags: object) -> None:
    """
    Show the plugins that routes may name: where they come from, their hooks, and what they do.

    A hook that runs inline is faster, because it never waits for the gateway. The attribute `inline` of the class overrides what is shown.
    The exit status is 0 if all plugins were loaded, 1 if one was refused, and 2 if a setting is wrong.
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
            for hook in found.hooks:
                click.echo(f"    {hook} runs inline: {_inline_text(found, hook)}")
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


def _inline_text(found: PluginType, hook: str) -> str:
    """Return whether a hook runs inline, and if not, why."""
    reason = found.may_suspend(hook)
    return "yes" if reason is None else f"no, because {reason}"


def _inline_fields(reason: str | None) -> dict[str, object]:
    return {"inline": reason is None, "reason": reason}


def _fields(found: PluginType) -> dict[str, object]:
    """Return the properties of a plugin for tools."""
    return {
        "name": found.name,
        "api": found.api.name,
        "hooks": list(found.hooks),
        "runs_inline": {hook: _inline_fields(found.may_suspend(hook)) for hook in found.hooks},
        "file": found.source.file,
        "line": found.source.line,
        "entry_point": found.source.entry_point,
        "doc": found.doc,
    }


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
