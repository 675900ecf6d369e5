# SPDX-License-Identifier: Apache-2.0
"""The table of commands. Each command is imported only when it is used."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from apisix import __version__, compiled

COMMANDS = {
    "start": ("apisix.cli.with_click:start", "Start the runner. It runs until SIGTERM or Ctrl-C."),
    "dev": ("apisix.cli.dev:dev", "Try plugins without APISIX: start a gateway, an upstream and the runner."),
    "new": ("apisix.cli.new:new", "Create a plugin, its test and a route for it."),
    "plugins": ("apisix.cli.plugins:plugins", "Show the plugins that routes can use, and how they run."),
    "schema": ("apisix.cli.schema:schema", "Show the JSON Schema of a plugin's configuration."),
    "health": ("apisix.cli.with_click:health", "Check that a runner replies, for example in a container's HEALTHCHECK."),
    "doctor": ("apisix.cli.doctor:doctor", "Find out why the gateway does not reach the runner, and what to do."),
    "record": ("apisix.cli.record:record", "Record the calls of a running runner for some time."),
    "replay": ("apisix.cli.replay:replay", "Run recorded calls through the plugins as they are now, and report what differs."),
    "check": ("apisix.cli.check:check", "Load the plugins, and validate the routes that use them."),
}
"""The definition of each command, as `module:attribute`, and its description."""


class Commands(click.Group):
    """A group whose commands are imported when they are used. If a library of a command is missing, the other commands work."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Parse the arguments, and print the help if it is requested."""
        with _broken_pipe_ends():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _broken_pipe_ends():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Raise ClickException if a library that it needs is not installed."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "apisix").partition(".")[0] == "apisix":
                raise
            raise click.ClickException(
                f"{cmd_name} needs {error.name}, which comes with the extra dev: pip install 'apisix-python-plugin-runner[dev]'"
            ) from error
        assert isinstance(command, click.Command)  # noqa: S101  # as in the table above
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments. Raise UsageError if there is none, with the most similar one in the message."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.format_message()} Did you mean {near[0]!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


@contextmanager
def _broken_pipe_ends() -> Iterator[None]:
    """
    Raise SystemExit from a BrokenPipeError, for `apisix/main.py`. Otherwise click exits with 1, which has another meaning for commands such
    as `check`.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise SystemExit(1) from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(f"{__version__} ({compiled.engine()})", prog_name="apisix-runner")
def commands() -> None:
    """Run Apache APISIX plugins that are written in Python."""
