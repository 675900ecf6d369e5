# SPDX-License-Identifier: Apache-2.0
"""The command `dev`: start the development gateway with the plugins."""

import sys
from typing import Any

import click

from apisix.cli.options.flags import setting_flags
from apisix.gateway.dev import run
from apisix.gateway.routing.routes import ROUTERS


@click.command()
@setting_flags(["socket_file", "plugins", "log_level"])
@click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), default=9080, show_default=True, help="The port of the gateway.")
@click.option(
    "--upstream-port", metavar="PORT", type=click.IntRange(0, 65535), default=1980, show_default=True, help="The port of the echo upstream."
)
@click.option(
    "--routes",
    metavar="FILE",
    help="The file with the routes, in the format of APISIX's stand-alone mode.  [default: apisix.yaml in the current directory]",
)
@click.option("--runner-socket", metavar="PATH", help="Use a runner that is already running instead of starting one.")
@click.option(
    "--apisix-version", metavar="VERSION", default="3.18", show_default=True, help="The release of APISIX to emulate, from 2.7 to 3.18."
)
@click.option(
    "--router",
    type=click.Choice(ROUTERS),
    help="The setting apisix.router.http of the gateway. Only with radixtree_uri_with_parameter, :name in a path is a parameter.  "
    "[default: that of the emulated release, radixtree_host_uri since 3.3]",
)
@click.option(
    "--read-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="The time limit for data from the runner.  [default: that of the emulated release, 60 since 2.8]",
)
@click.option("--admin-key", metavar="KEY", help="The key of the admin API.  [default: the key in APISIX's documentation]")
@click.option("--debug", is_flag=True, help="Allow breakpoint() in plugins, and disable all time limits.")
@click.option(
    "--debugpy",
    metavar="[HOST:]PORT",
    help="Allow an editor to attach to the plugins with debugpy, and disable all time limits.",
)
@click.option(
    "--inspect-port",
    type=click.IntRange(0, 65535),
    help="The port of the inspector, a page that shows the requests.  [default: 9081, or a free port if that is taken]",
)
@click.option("--inspect/--no-inspect", default=True, show_default=True, help="Start the inspector.")
@click.option("--json", is_flag=True, help="Print JSON for tools.")
def dev(socket_file: str | None, **options: Any) -> None:
    """
    Try plugins without APISIX: start a gateway, an echo upstream and the runner. They run until Ctrl-C.

    If --plugins is not given, plugins/ in the current directory is loaded, if it exists.
    """
    sys.exit(run(socket=socket_file, **options))
