# SPDX-License-Identifier: Apache-2.0
"""The command `check`: find out if the runner can load the plugins, and if the configurations in routes are valid."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from apisix.cli.diagnosis.release import INFO_IN_RESPONSES, found_release, release_of_server
from apisix.cli.diagnosis.result import counted
from apisix.cli.loading import load_registry, problem_fields
from apisix.cli.options.flags import CommandError, setting_flags
from apisix.cli.routes.files import Source, UnreadableRoutes, files_in, read_routes
from apisix.cli.routes.found import RouteProblem
from apisix.cli.routes.live import Gateway, read_key
from apisix.cli.routes.search import Search
from apisix.cli.routes.validation import problems_of
from apisix.cli.shared_state import assigned_attributes
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.loading.registry import Registry

DEFAULT_ROUTES = Path("apisix.yaml")
_IGNORED = "the file does not end with the line #END, so APISIX ignores the whole file; add this line"
_NO_CONFIGURATION = "there is no ext-plugin configuration in this file, so nothing in it was checked"
_NO_CONFIGURATION_IN_DIRECTORY = (
    "there is no ext-plugin configuration in the YAML and JSON files of this directory, so nothing in it was checked"
)


@click.command()
@setting_flags(["plugins"])
@click.option("--gateway-config", metavar="FILE", help="The config.yaml of the gateway. Its release decides what plugins can do.")
@click.option("--admin", metavar="URL", help="Check the routes of a running gateway. URL is its admin API. Only GET requests are sent.")
@click.option("--key-file", metavar="FILE", help="The file that contains the key of the admin API.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for tools.")
@click.argument("files", nargs=-1, metavar="[FILE | DIRECTORY]...")
def check(
    files: tuple[str, ...], gateway_config: str | None, admin: str | None, key_file: str | None, as_json: bool, **flags: object
) -> None:
    """
    Load the plugins as `start` does, and validate the routes that use them.

    A FILE is an apisix.yaml, a file for adc, a manifest for the ingress controller, or JSON of the admin API. In a DIRECTORY, all YAML and
    JSON files are checked. The default is apisix.yaml in the current directory, unless --admin is given. If --plugins is not given,
    plugins/ in the current directory is loaded, if it exists.

    The exit status is 0 if there are no problems, 1 if there are problems, and 2 if a file or the gateway can't be read.
    """
    if key_file is not None and admin is None:
        raise click.UsageError("--key-file can be used only with --admin")
    if gateway_config is not None and not Path(gateway_config).is_file():
        raise click.UsageError(f"--gateway-config: there is no file {gateway_config}; use the gateway's conf/config.yaml")
    registry = load_registry(flags)
    work = _Check(Search(registry))
    gateway = None
    try:
        if files:
            for file in files:
                work.add_path(Path(file))
        elif admin is None and DEFAULT_ROUTES.is_file():
            work.notes.append(f"no file was given, so {DEFAULT_ROUTES} in the current directory is checked")
            if work.add(read_routes(DEFAULT_ROUTES)):
                work.notes.append(f"{DEFAULT_ROUTES}: {_NO_CONFIGURATION}")
        if admin is not None:
            gateway = Gateway(admin, None if key_file is None else read_key(Path(key_file)))
            empty = [work.add(source) for source in gateway.sources(work.notes)]
            if all(empty):
                work.notes.append(f"{admin}: there is no ext-plugin configuration in this gateway, so nothing in it was checked")
    except UnreadableRoutes as error:
        raise CommandError(str(error)) from error
    server = None if gateway is None else gateway.server
    notes = [
        *work.notes,
        *work.search.notes(),
        *_release_notes(work.search, gateway_config, server),
        *map(str, assigned_attributes(registry)),
    ]
    _print_report(registry, work, notes, as_json=as_json)
    sys.exit(1 if work.problems or registry.problems else 0)


class _Check:
    """Checks files and a gateway, and collects the problems and notes."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.problems: list[RouteProblem] = []
        self.notes: list[str] = []

    def add_path(self, path: Path) -> None:
        """Check a file, or all files of a directory. Raise UnreadableRoutes if the file or directory can't be read."""
        if not path.is_dir():
            skipped = len(self.search.skipped)
            if self.add(read_routes(path)):
                self.problems.append(RouteProblem(str(path), 0, "", "", _NO_CONFIGURATION))
                self.notes += [str(each) for each in self.search.skipped[skipped:] if not each.phase]
            return
        files = files_in(path)
        empty = 0
        for file in files:
            try:
                empty += self.add(read_routes(file))
            except UnreadableRoutes as error:  # the other files are checked, even if one is not YAML, such as a template
                self.problems.append(RouteProblem(error.source, error.line, "", "", error.reason))
        if empty == len(files):
            self.problems.append(RouteProblem(str(path), 0, "", "", _NO_CONFIGURATION_IN_DIRECTORY))
        elif empty:
            self.notes.append(f"{path}: {empty} of {counted(len(files), 'file')} contain no ext-plugin configuration")

    def add(self, source: Source) -> bool:
        """Check the content of a file, or of a list of the gateway. Return True if there was nothing to check."""
        if source.is_ignored:
            self.problems.append(RouteProblem(source.name, 0, "", "", _IGNORED))
        confs, problems, skipped = len(self.search.confs), len(self.search.problems), len(self.search.skipped)
        for document in source.documents:
            self.search.add(document, source.name, is_stand_alone=source.is_stand_alone)
        of_configurations = [
            problem for found in self.search.confs[confs:] for problem in problems_of(self.search.registry, found, self.notes)
        ]
        self.problems += sorted([*self.search.problems[problems:], *of_configurations], key=lambda problem: problem.line)
        is_empty = len(self.search.confs) == confs and len(self.search.problems) == problems
        # A directory often contains many other manifests: those in files without any configuration are only counted.
        self.notes += [str(each) for each in self.search.skipped[skipped:] if each.phase or not is_empty]
        return is_empty


def _release_notes(search: Search, gateway_config: str | None, server: str | None) -> Iterator[str]:
    """Yield a warning about plugins in ext-plugin-post-resp if the installed or running gateway does not support that they read a body."""
    in_responses = [found.holder for found in search.confs if found.phase is Phase.POST_RESP]
    if not in_responses:
        return
    release = found_release(None if gateway_config is None else Path(gateway_config)) if server is None else release_of_server(server)
    holders = ", ".join(dict.fromkeys(in_responses))
    if release is not None and release.number < INFO_IN_RESPONSES:
        yield f"{holders}: {release.warning_of_responses()}"
    elif release is None and gateway_config is not None:
        yield f"{holders}: APISIX was not found next to {gateway_config}, so it is not known if its release lets plugins read responses"


def _print_report(registry: Registry, work: _Check, notes: list[str], *, as_json: bool) -> None:
    checked, problems = len(work.search.confs), work.problems
    is_correct = not problems and not registry.problems
    if as_json:
        of_plugins = [problem_fields(problem) for problem in registry.problems]
        report = {"ok": is_correct, "plugins": len(registry.types), "configurations": checked, "problems": of_plugins}
        skipped = msgspec.to_builtins(work.search.skipped)
        click.echo(json.dumps({**report, "findings": msgspec.to_builtins(problems), "notes": notes, "skipped": skipped}, indent=2))
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    for problem in (*registry.problems, *problems):
        click.echo(str(problem))
    verdict = "no problems" if is_correct else counted(len(registry.problems) + len(problems), "problem")
    plugins = counted(len(registry.types), "plugin")
    click.echo(
        f"{plugins}, {counted(checked, 'configuration')}: {verdict}" if checked else f"{plugins}: {verdict}; no configuration was checked"
    )
