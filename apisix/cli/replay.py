# SPDX-License-Identifier: Apache-2.0
"""The command `replay`: run recorded calls through the plugins as they are now, and report what differs."""

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import click
import uvloop

from apisix.cli.loading import load_registry
from apisix.cli.options.flags import CommandError, setting_flags
from apisix.cli.replaying.inspect import DifferentCall, serve
from apisix.cli.replaying.report import JsonReport, Report, TextReport
from apisix.cli.start import gather
from apisix.runner.call.observing.watching import SharedStateWarning
from apisix.runner.records.format import UnreadableRecord
from apisix.testing.client import Client
from apisix.testing.replaying.comparable import NotComparable
from apisix.testing.replaying.reading import RecordFile

_PROGRESS_BYTES = 1 << 16
"""After how many bytes of the file the progress bar moves."""


@click.command()
@setting_flags(["plugins"])
@click.option("--route", metavar="KEY", help="Replay only calls with this route key, or with one that begins with it, as in route#1.")
@click.option("--plugin", "only", metavar="NAME", multiple=True, help="Replay only calls with this plugin. May be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines for tools.")
@click.option("--inspect", is_flag=True, help="Show the calls that differ in the inspector, until Ctrl-C.")
@click.option(
    "--inspect-port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=9081,
    show_default=True,
    help="The port of the inspector. 0 is a free port.",
)
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(file: Path, route: str | None, only: tuple[str, ...], as_json: bool, inspect: bool, inspect_port: int, **flags: object) -> None:
    """
    Run recorded calls through the plugins as they are now, and report what differs.

    FILE contains records of `start --record`. Info requests are answered from the record. Everything else happens again: if a plugin calls
    a service, it is called. If --plugins is not given, plugins/ in the current directory is loaded, if it exists.

    The exit status is 0 if nothing differs, 1 if a call differs, and 2 if the file can't be read or contains no such call.
    """
    registry = load_registry(flags)
    for problem in registry.problems:
        click.echo(f"note: {problem}", err=True)
    settings = gather(flags, os.environ)
    records = RecordFile(file, route=route, plugins=only)
    report: Report = JsonReport() if as_json else TextReport(str(file))
    client = Client(registry=registry, on_error=settings.on_error, plugin_timeout_s=settings.plugin_timeout_s)
    try:
        with _only_the_report(), _progress(file) as progress, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            shown = runner.run(_replay(client, records, report, progress, keeps=inspect))
    except BrokenPipeError:  # the standard output, not the file
        raise
    except (UnreadableRecord, OSError) as error:
        raise CommandError(str(error)) from error
    for note in records.notes:
        click.echo(f"note: {note}", err=True)
    if report.calls == 0:
        raise CommandError(f"{file} contains no call{' of this route or plugin' if route is not None or only else ''}")
    report.finish()
    if inspect:
        try:
            asyncio.run(serve(shown, inspect_port))
        except KeyboardInterrupt:
            click.echo()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(f"--inspect-port: {error}") from error
    sys.exit(1 if report.different else 0)


async def _replay(
    client: Client, records: RecordFile, report: Report, progress: Callable[[int], None], *, keeps: bool
) -> list[DifferentCall]:
    """Replay calls one after another. Returns: the calls that differ, if `keeps` is true."""
    different = []
    async with client:
        for recorded in records:
            progress(records.read_bytes)
            try:
                result = await client.areplay(recorded)
            except NotComparable as reason:
                report.left_out(recorded, str(reason))
                continue
            report.replayed(recorded, result)
            if keeps and result.differences:
                different.append(DifferentCall(recorded.call, result.record, result.differences))
    return different


@contextmanager
def _only_the_report() -> Iterator[None]:
    """Keep what the runner logs and plugins print away from the report. Its records contain the same."""
    logger = logging.getLogger("apisix")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore", SharedStateWarning)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, if rich is installed. Yields: a function that is called with the number of bytes read so far."""
    if not sys.stderr.isatty():
        yield lambda read_bytes: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:
        yield lambda read_bytes: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=file.stat().st_size)
        shown = 0

        def show(read_bytes: int) -> None:
            nonlocal shown
            if read_bytes - shown >= _PROGRESS_BYTES:
                shown = read_bytes
                bar.update(task, completed=read_bytes)

        yield show
