# SPDX-License-Identifier: Apache-2.0
"""The command `dev`: its flags."""

import sys
from typing import Any

import click

from apisix.cli.options.flags import setting_flags
from apisix.gateway.dev import run
from apisix.gateway.routing.routes import DEFAULT_ROUTER, ROUTERS


@click.command()
@setting_flags(["socket_file", "plugins", "log_level"])
@click.option("--port", type=click.IntRange(0, 65535), default=9080, show_default=True, help="Where the gateway serves HTTP.")
@click.option("--upstream-port", type=click.IntRange(0, 65535), default=1980, show_default=True, help="Where the echo upstream serves.")
@click.option("--routes", metavar="FILE", help="Routes in APISIX's stand-alone form.  [default: apisix.yaml of this directory]")
@click.option("--runner-socket", metavar="PATH", help="Use a runner that is already running instead of starting one.")
@click.option("--apisix-version", metavar="VERSION", default="3.18", show_default=True, help="The release to emulate, 2.7 or later.")
@click.option(
    "--router",
    type=click.Choice(ROUTERS),
    default=DEFAULT_ROUTER,
    show_default=True,
    help="The gateway's setting apisix.router.http. :name in a path is a parameter only with radixtree_uri_with_parameter.",
)
@click.option(
    "--read-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How long to wait for data from the runner.  [default: that of the release, 60 s since 2.8]",
)
@click.option("--admin-key", metavar="KEY", help="The key of the admin API.  [default: that of APISIX's documentation]")
@click.option("--debug", is_flag=True, help="Let breakpoint() in a plugin open a prompt, and lift all time limits.")
@click.option(
    "--debugpy",
    metavar="[HOST:]PORT",
    help="Let an editor attach to the plugins with debugpy, and lift all time limits.",
)
@click.option("--json", is_flag=True, help="Print JSON for tools.")
def dev(socket_file: str | None, **options: Any) -> None:
    """
    Try plugins without APISIX: a gateway, an echo upstream and the runner, until Ctrl-C.

    The plugins are those of --plugins, or of the directory plugins/ if it exists.
    """
    sys.exit(run(socket=socket_file, **options))
