# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner check`: would production run these plugins for these routes?"""

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from apisix.cli.diagnosis.release import INFO_IN_RESPONSES, found_release
from apisix.cli.flags import UsageFailure, setting_flags
from apisix.cli.plugins import load_registry, problem_fields
from apisix.cli.route_files import UnreadableRoutes, read_routes
from apisix.cli.route_search import FoundConf, Search
from apisix.cli.shared_state import assigned_attributes
from apisix.runner.errors import ChainRefused
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain import Chain
from apisix.runner.plugin.chain_builder import build_chain
from apisix.runner.plugin.registry import Registry
from apisix.runner.plugin.route_configuration import RouteConfiguration

MAX_NAME_LENGTH = 128  # source: gateway contract, 3
DEFAULT_ROUTES = Path("apisix.yaml")
_KEYS = ("conf", "allow_degradation", "_meta")
_ENTRY_KEYS = ("name", "value")
_IGNORED = "the file does not end with the line #END, so APISIX ignores all of it"
_NOTHING_IN = "there is no ext-plugin configuration in this file, so nothing in it was checked"


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with one configuration. `line` is 0 if it is not known, and `holder` and `phase` are empty for a file as a whole."""

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
@click.option("--json", "as_json", is_flag=True, help="For tools.")
@click.argument("files", nargs=-1, metavar="[apisix.yaml | routes.json]...")
def check(files: tuple[str, ...], gateway_config: str | None, as_json: bool, **flags: object) -> None:
    """
    Load the plugins as `start` does, and validate each configuration of each route against them.

    Without --plugins, plugins/ of this directory is loaded if it exists, and without files, apisix.yaml of this directory is checked, as
    `dev` does. The exit status is 0 if all is well, 1 if there is a problem, and 2 if a file can't be read.
    """
    registry = load_registry(flags, default=True)
    paths = [Path(file) for file in files] or [path for path in (DEFAULT_ROUTES,) if path.is_file()]
    search = Search(registry)
    findings: list[Finding] = []
    notes = [] if files or not paths else [f"no file was named, so {DEFAULT_ROUTES} of this directory is checked"]
    try:
        for path in paths:
            is_empty = _check_file(search, path, findings)
            if is_empty and files:
                findings.append(Finding(str(path), 0, "", "", _NOTHING_IN))
            elif is_empty:
                notes.append(f"{path}: {_NOTHING_IN}")
    except UnreadableRoutes as error:
        raise UsageFailure(str(error)) from error
    notes += [*search.notes(), *_release_notes(search, gateway_config), *map(str, assigned_attributes(registry))]
    _tell(registry, len(search.confs), findings, notes, as_json=as_json)
    sys.exit(1 if findings or registry.problems else 0)


def _check_file(search: Search, path: Path, findings: list[Finding]) -> bool:
    """Add what is wrong in a file to `findings`. Returns: whether there was nothing in it to check."""
    document, is_ignored = read_routes(path)
    if is_ignored:
        findings.append(Finding(str(path), 0, "", "", _IGNORED))
    confs, misplaced = len(search.confs), len(search.misplaced)
    search.add(document)
    findings += [Finding(str(path), found.line, found.holder, found.phase, found.reason) for found in search.misplaced[misplaced:]]
    for found in search.confs[confs:]:
        for line, reason in reasons_against(search.registry, found):
            findings.append(Finding(str(path), line, found.holder, str(found.phase), reason))
    return len(search.confs) == confs and len(search.misplaced) == misplaced


def _release_notes(search: Search, gateway_config: str | None) -> Iterator[str]:
    """Warn of plugins under ext-plugin-post-resp if the gateway of this machine can't let them read a body."""
    in_responses = [found.holder for found in search.confs if found.phase is Phase.POST_RESP]
    release = found_release(None if gateway_config is None else Path(gateway_config)) if in_responses else None
    if release is not None and release.number < INFO_IN_RESPONSES:
        yield f"{', '.join(dict.fromkeys(in_responses))}: {release.warning_of_responses()}"


def _tell(registry: Registry, checked: int, findings: list[Finding], notes: list[str], *, as_json: bool) -> None:
    is_well = not findings and not registry.problems
    if as_json:
        problems = [problem_fields(problem) for problem in registry.problems]
        report = {"ok": is_well, "plugins": len(registry.types), "configurations": checked, "problems": problems}
        click.echo(json.dumps({**report, "findings": msgspec.to_builtins(findings), "notes": notes}, indent=2))
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    for fault in (*registry.problems, *findings):
        click.echo(str(fault))
    verdict = "all is well" if is_well else _count(len(registry.problems) + len(findings), "problem")
    plugins = _count(len(registry.types), "plugin")
    click.echo(
        f"{plugins}, {_count(checked, 'configuration')}: {verdict}" if checked else f"{plugins}: {verdict}; no configuration was checked"
    )


def reasons_against(registry: Registry, found: FoundConf) -> Iterator[tuple[int, str]]:
    """Say all that is wrong with a configuration, with the lines: its form, its plugins, or their own configurations."""
    content = found.content
    entries = content.get("conf", []) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not isinstance(content, dict):
        yield found.line, "this must be a mapping in which conf is a list of plugins, each with a name and a value"
        return
    yield from _key_faults(content, _KEYS, found.line)
    if "conf" in content and not entries:
        yield found.line, "conf is empty, which APISIX refuses; leave it out if no plugin is to run"
    if not isinstance(content.get("allow_degradation", False), bool):
        yield found.line, "allow_degradation must be true or false"
    for number, entry in enumerate(entries, 1):
        line = getattr(entry, "line", found.line)
        if reason := _form(entry):
            yield line, f"plugin {number}: {reason}"
            continue
        for at, reason in _key_faults(entry, _ENTRY_KEYS, line):
            yield at, f"plugin {number}: {reason}"
        # One by one, and not as a chain: its reasons are one text, and each of them has a line of its own here.
        name = entry["name"]
        configuration = RouteConfiguration(f"route#1#{found.phase}#1", ((name, entry["value"]),))
        chain = build_chain(registry, configuration, response=found.phase is Phase.POST_RESP)
        refusal = chain.refusal.removeprefix(f"plugin 1 of 1, {name}: ") if chain.refusal else _failed_configuration(chain)
        if refusal:
            yield line, f"plugin {number}, {name}: {refusal}"


def _failed_configuration(chain: Chain) -> str | None:
    """Return why a plugin can't be configured that is only configured when a call runs."""
    try:
        for step in chain.steps:
            if step.configure is not None:
                step.configure()
    except ChainRefused as refused:
        return str(refused)
    return None


def _key_faults(mapping: dict[Any, Any], known: tuple[str, ...], line: int) -> Iterator[tuple[int, str]]:
    """Find keys that APISIX ignores, and keys that are written twice."""
    for key, at in getattr(mapping, "repeated", ()):
        yield at, f"the key {key} is here twice, and only the last one counts"
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            yield getattr(mapping, "lines", {}).get(key, line), f"APISIX ignores the key {key}; {advice}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _form(entry: Any) -> str | None:
    """Say what the gateway itself would refuse of an entry. Source: gateway contract, 3."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not isinstance(entry.get("value"), str):
        return "it must have a name and a value, and both must be texts; JSON in a value stands in quotes"
    if not 1 <= len(entry["name"]) <= MAX_NAME_LENGTH:
        return f"a name has 1 to {MAX_NAME_LENGTH} characters, this one has {len(entry['name'])}"
    return None
