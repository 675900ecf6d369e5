# SPDX-License-Identifier: Apache-2.0
"""The command `check`: would production run these plugins for these routes?"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from apisix.cli.diagnosis.release import INFO_IN_RESPONSES, found_release, release_of_server
from apisix.cli.loading import load_registry, problem_fields
from apisix.cli.options.flags import UsageFailure, setting_flags
from apisix.cli.routes.files import Source, UnreadableRoutes, files_in, read_routes
from apisix.cli.routes.live import Gateway, read_key
from apisix.cli.routes.search import Search
from apisix.cli.routes.validation import problems_of
from apisix.cli.shared_state import assigned_attributes
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.loading.registry import Registry

DEFAULT_ROUTES = Path("apisix.yaml")
_IGNORED = "the file does not end with the line #END, so APISIX ignores all of it"
_NOTHING_IN = "there is no ext-plugin configuration in this file, so nothing in it was checked"
_NOTHING_IN_DIRECTORY = "there is no ext-plugin configuration in the YAML and JSON files of this directory, so nothing was checked"


class RouteProblem(msgspec.Struct, frozen=True):
    """
    A problem of a configuration in a file of routes.

    Attributes:
        file: the path of the file.
        line: the line, or 0 if it is not known.
        holder: what contains the configuration, such as `route 1`; "" if the problem is one of the whole file.
        phase: the phase, or "".
        reason: what is wrong.
    """

    file: str
    line: int
    holder: str
    phase: str
    reason: str

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        return ": ".join(filter(None, (f"{self.file}{line}", ", ".join(filter(None, (self.holder, self.phase))), self.reason)))


@click.command()
@setting_flags(["plugins"])
@click.option("--gateway-config", metavar="FILE", help="The config.yaml of the gateway whose release is considered.")
@click.option("--admin", metavar="URL", help="Check the routes of a running gateway. URL is that of its admin API. Only GET is used.")
@click.option("--key-file", metavar="FILE", help="The file that contains the key of the admin API.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for tools.")
@click.argument("files", nargs=-1, metavar="[FILE | DIRECTORY]...")
def check(
    files: tuple[str, ...], gateway_config: str | None, admin: str | None, key_file: str | None, as_json: bool, **flags: object
) -> None:
    """
    Load the plugins as `start` does, and validate the configurations in routes.

    A file is an apisix.yaml, a file for adc, a manifest of the ingress controller, or JSON of the admin API. Of a directory, all YAML and
    JSON files are read. Without --plugins, plugins/ of this directory is loaded if it exists. Without files and --admin, apisix.yaml of
    this directory is checked, as by `dev`. The exit status is 0 if there is no problem, 1 if there is one, and 2 if a file or the gateway
    can't be read.
    """
    if key_file is not None and admin is None:
        raise click.UsageError("--key-file needs --admin")
    registry = load_registry(flags, default=True)
    work = _Check(Search(registry))
    gateway = None
    try:
        if files:
            for file in files:
                work.add_path(Path(file))
        elif admin is None and DEFAULT_ROUTES.is_file():
            work.notes.append(f"no file was given, so {DEFAULT_ROUTES} of this directory is checked")
            if work.add(read_routes(DEFAULT_ROUTES)):
                work.notes.append(f"{DEFAULT_ROUTES}: {_NOTHING_IN}")
        if admin is not None:
            gateway = Gateway(admin, None if key_file is None else read_key(Path(key_file)))
            empty = [work.add(source) for source in gateway.sources(work.notes)]
            if all(empty):
                work.notes.append(f"{admin}: there is no ext-plugin configuration in this gateway, so nothing in it was checked")
    except UnreadableRoutes as error:
        raise UsageFailure(str(error)) from error
    server = None if gateway is None else gateway.server
    notes = [
        *work.notes,
        *work.search.notes(),
        *_release_notes(work.search, gateway_config, server),
        *map(str, assigned_attributes(registry)),
    ]
    _print_report(registry, len(work.search.confs), work.problems, notes, as_json=as_json)
    sys.exit(1 if work.problems or registry.problems else 0)


class _Check:
    """Checks files and gateways one after the other, and collects the problems and notes."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.problems: list[RouteProblem] = []
        self.notes: list[str] = []

    def add_path(self, path: Path) -> None:
        """Check a file, or all files of a directory. Raise UnreadableRoutes if the file or directory can't be read."""
        if not path.is_dir():
            if self.add(read_routes(path)):
                self.problems.append(RouteProblem(str(path), 0, "", "", _NOTHING_IN))
            return
        files = files_in(path)
        empty = 0
        for file in files:
            try:
                empty += self.add(read_routes(file))
            except UnreadableRoutes as error:  # such as a template, which does not keep the other files from being checked
                self.problems.append(RouteProblem(error.source, error.line, "", "", error.reason))
        if empty == len(files):
            self.problems.append(RouteProblem(str(path), 0, "", "", _NOTHING_IN_DIRECTORY))
        elif empty:
            self.notes.append(f"{path}: {empty} of {_count(len(files), 'file')} contain no ext-plugin configuration")

    def add(self, source: Source) -> bool:
        """Check what was read. Return True if there was nothing to check."""
        if source.is_ignored:
            self._add_problem(source, 0, "", "", _IGNORED)
        confs, misplaced = len(self.search.confs), len(self.search.misplaced)
        for document in source.documents:
            self.search.add(document, is_stand_alone=source.is_stand_alone)
        for mistake in self.search.misplaced[misplaced:]:
            self._add_problem(source, mistake.line, mistake.holder, mistake.phase, mistake.reason)
        for found in self.search.confs[confs:]:
            for line, reason in problems_of(self.search.registry, found, self.notes):
                self._add_problem(source, line, found.holder, str(found.phase), reason)
        return len(self.search.confs) == confs and len(self.search.misplaced) == misplaced

    def _add_problem(self, source: Source, line: int, holder: str, phase: str, reason: str) -> None:
        self.problems.append(RouteProblem(source.name, line, holder, phase, reason))


def _release_notes(search: Search, gateway_config: str | None, server: str | None) -> Iterator[str]:
    """Yield a warning about plugins under ext-plugin-post-resp if the installed or running gateway does not let them read a body."""
    in_responses = [found.holder for found in search.confs if found.phase is Phase.POST_RESP]
    if not in_responses:
        return
    release = found_release(None if gateway_config is None else Path(gateway_config)) if server is None else release_of_server(server)
    if release is not None and release.number < INFO_IN_RESPONSES:
        yield f"{', '.join(dict.fromkeys(in_responses))}: {release.warning_of_responses()}"


def _print_report(registry: Registry, checked: int, problems: list[RouteProblem], notes: list[str], *, as_json: bool) -> None:
    is_well = not problems and not registry.problems
    if as_json:
        of_plugins = [problem_fields(problem) for problem in registry.problems]
        report = {"ok": is_well, "plugins": len(registry.types), "configurations": checked, "problems": of_plugins}
        click.echo(json.dumps({**report, "findings": msgspec.to_builtins(problems), "notes": notes}, indent=2))
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    for problem in (*registry.problems, *problems):
        click.echo(str(problem))
    verdict = "no problems" if is_well else _count(len(registry.problems) + len(problems), "problem")
    plugins = _count(len(registry.types), "plugin")
    click.echo(
        f"{plugins}, {_count(checked, 'configuration')}: {verdict}" if checked else f"{plugins}: {verdict}; no configuration was checked"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
