# SPDX-License-Identifier: Apache-2.0
"""The command `schema`: the JSON Schema of a plugin's configuration."""

import json

import click

from apisix.cli.loading import load_registry
from apisix.cli.options.flags import setting_flags
from apisix.runner.plugin.plugin_type import Problem


@click.command()
@click.argument("name")
@setting_flags(["plugins"])
def schema(name: str, **flags: object) -> None:
    """
    Show the JSON Schema of the configuration of the plugin NAME.

    If --plugins is not given, plugins/ in the current directory is loaded, if it exists.
    """
    registry = load_registry(flags)
    found = registry.get(name)
    if isinstance(found, Problem):
        raise click.ClickException(f"{name} could not be loaded: {found}")
    if found is None:
        near = registry.suggest(name)
        advice = f"did you mean {near}?" if near else f"the plugins are {', '.join(plugin_type.name for plugin_type in registry.types)}"
        raise click.ClickException(f"there is no plugin {name}; {advice}")
    click.echo(json.dumps(found.config_schema(), indent=2))
