# SPDX-License-Identifier: Apache-2.0
"""The command `plugins`: the plugins that are loaded, and how their hooks run."""

import json
import sys

import click

from apisix.cli.loading import load_registry, problem_fields
from apisix.cli.options.flags import setting_flags
from apisix.runner.plugin.plugin_type import PluginType


@click.command()
@setting_flags(["plugins"])
@click.option("--json", "as_json", is_flag=True, help="Print JSON for tools.")
def plugins(as_json: bool, **flags: object) -> None:
    """
    Show the plugins that routes can use: their source, their hooks, and what they do.

    If --plugins is not given, plugins/ in the current directory is loaded, if it exists.

    A hook that runs inline is faster, because it never waits for the gateway. The attribute `inline` of a class overrides this.

    The exit status is 0 if all plugins were loaded, 1 if one was refused, and 2 if a setting is not correct.
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


def _inline_text(found: PluginType, hook: str) -> str:
    """Return "yes" if a hook runs inline, or else why it does not."""
    reason = found.may_suspend(hook)
    return "yes" if reason is None else f"no, because {reason}"


def _inline_fields(reason: str | None) -> dict[str, object]:
    return {"inline": reason is None, "reason": reason}


def _fields(found: PluginType) -> dict[str, object]:
    """Return the fields of a plugin for JSON."""
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
