# SPDX-License-Identifier: Apache-2.0
"""The command `doctor`: find out why the gateway does not reach the runner. It does not change anything."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from apisix.cli.diagnosis import processes
from apisix.cli.diagnosis.gateway import USUAL_PLACE, GatewayConfig, examine_gateway, read_gateway_config
from apisix.cli.diagnosis.metrics import examine_metrics
from apisix.cli.diagnosis.plugins import examine_plugins
from apisix.cli.diagnosis.python import examine_python
from apisix.cli.diagnosis.result import Level, Result, Results, counted, ok, problem, warning
from apisix.cli.diagnosis.sockets import examine_socket
from apisix.cli.diagnosis.state import examine_state
from apisix.cli.diagnosis.store import examine_store
from apisix.cli.options.flags import setting_flags
from apisix.cli.start import gather
from apisix.runner.errors import SettingsError
from apisix.runner.settings.loading import load
from apisix.runner.settings.table import Settings


@click.command()
@setting_flags(["socket_file", "plugins"])
@click.option("--gateway-config", metavar="FILE", help=f"The gateway's config.yaml.  [default: {USUAL_PLACE}, if it exists]")
@click.option(
    "--gateway-user",
    "gateway_users",
    metavar="USER",
    multiple=True,
    help="The user of a gateway in another container, by name or number. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for tools.")
def doctor(gateway_config: str | None, gateway_users: tuple[str, ...], as_json: bool, **flags: object) -> None:
    """
    Examine everything that the gateway needs to reach the runner, and print what to do if something is wrong.

    The exit status is 0 if there are no problems, even if there are warnings, and 1 if there are problems.
    """
    results = []
    for result in examine(flags, os.environ, None if gateway_config is None else Path(gateway_config), gateway_users):
        results.append(result)
        if not as_json:
            click.echo(str(result))
    count = Counter(result.level for result in results)
    if as_json:
        click.echo(json.dumps({"ok": not count[Level.PROBLEM], "findings": msgspec.to_builtins(results)}, indent=2))
    else:
        problems, warnings = counted(count[Level.PROBLEM], "problem"), counted(count[Level.WARNING], "warning")
        click.echo(f"{problems}, {warnings}, {counted(count[Level.OK], 'check')} passed")
    sys.exit(1 if count[Level.PROBLEM] else 0)


def examine(
    flags: Mapping[str, object], environ: Mapping[str, str], gateway_file: Path | None, gateway_users: Sequence[str] = ()
) -> Results:
    """
    Examine settings, Python, gateway, socket, store, metrics, shared store and plugins.

    Args:
        flags: the flags of the command line.
        environ: the environment variables.
        gateway_file: the gateway's config.yaml, or None for the default path.
        gateway_users: users of a gateway that is not visible from here, by name or number.
    """
    try:
        settings = gather(flags, environ)
    except SettingsError as error:
        yield problem(
            "settings", str(error), "The runner does not start with this setting. The following results are for the default settings"
        )
        settings = _without_file(flags)
    for note in settings.notes:
        yield warning("settings", note, "")
    yield from examine_python(settings)
    gateway = _gateway(gateway_file)
    if isinstance(gateway, Result):
        yield gateway
        gateway = None
    if gateway is not None:
        is_managed = bool(gateway.ext_plugin.get("cmd")) and not gateway.ext_plugin.get("path_for_test")
        if is_managed and not flags.get("socket_file") and settings.socket_file == Settings().socket_file:
            settings = msgspec.structs.replace(settings, socket_file=gateway.managed_path() or "")
        yield from examine_gateway(gateway, settings.socket_file)
    if settings.socket_file:
        users = processes.gateway_users() | (set() if gateway is None else gateway.users())
        if not users and not gateway_users:
            yield ok(
                "gateway",
                "no worker of a gateway is visible from here; to check if the workers of another container may connect, add --gateway-user",
            )
        yield from examine_socket(settings, users, gateway_users)
        yield from examine_store(settings)
    else:
        yield problem(
            "socket",
            f"{gateway.path.parent if gateway else ''} contains no socket of a runner that the gateway has started",
            "Start the gateway. If it is running, look for apisix-runner in its error.log",
        )
    yield from examine_metrics(settings)
    yield from examine_state(settings)
    yield from examine_plugins(settings)


def _without_file(flags: Mapping[str, object]) -> Settings:
    try:
        return load(None, flags, {})
    except SettingsError:
        return Settings()


def _gateway(file: Path | None) -> GatewayConfig | Result | None:
    if file is None and not USUAL_PLACE.exists():
        return None
    return read_gateway_config(file or USUAL_PLACE)
