# SPDX-License-Identifier: Apache-2.0
"""
The commands `start` and `health`, if click must read their arguments: for help, or because there is a mistake in them.

`apisix/main.py` runs them without click if it can.
"""

import sys

import click

from apisix.cli.options.flags import setting_flags


@click.command()
@setting_flags()
def start(**flags: object) -> None:
    """
    Start the runner. It runs until SIGTERM or Ctrl-C.

    Most settings have no flag, but can be given in the configuration file or in environment variables. The file apisix/config.yaml of the
    package describes them. The exit status is 2 if a setting is not correct.
    """
    from apisix.cli.start import start as run

    sys.exit(run(flags))


@click.command()
@setting_flags(["socket_file"])
@click.option("--timeout", "timeout_s", metavar="SECONDS", default="5", show_default=True, help="The time limit for the replies.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for tools.")
def health(**flags: object) -> None:
    """
    Check that a runner replies, for example in a container's HEALTHCHECK.

    The command connects to the socket as the gateway does, and sends one call without plugins. The exit status is 0 if the runner replies,
    and 1 if it does not.
    """
    from apisix.cli.health import health as run

    sys.exit(run(flags))
