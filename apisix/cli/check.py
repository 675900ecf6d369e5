# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner check`: would production run these plugins for these routes?"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from apisix.cli.flags import UsageFailure, setting_flags
from apisix.cli.plugins import load_registry, problem_fields
from apisix.cli.route_files import FoundConf, UnreadableRoutes, find_confs
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain import build_chain
from apisix.runner.plugin.registry import Registry

MAX_NAME_LENGTH = 128  # source: gateway contract, 3


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with one configuration. `line` is 0 where it is not known."""

    file: str
    line: int
    holder: str
    phase: str
    reason: str

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        return f"{self.file}{line}: {self.holder}, {self.phase}: {self.reason}"


@click.command()
@setting_flags(["plugins"])
@click.option("--json", "as_json", is_flag=True, help="For tools.")
@click.argument("files", nargs=-1, metavar="[apisix.yaml | routes.json]...")
def check(files: tuple[str, ...], as_json: bool, **flags: object) -> None:
    """
    Load the plugins as `start` does, and validate each configuration of each route against them.

    The exit status is 0 where all is well, 1 where it is not, and 2 where a file can't be read.
    """
    registry = load_registry(flags)
    checked = 0
    findings: list[Finding] = []
    try:
        for file in files:
            for found in find_confs(Path(file)):
                checked += 1
                for line, reason in reasons_against(registry, found):
                    findings.append(Finding(file, line, found.holder, str(found.phase), reason))
    except UnreadableRoutes as error:
        raise UsageFailure(str(error)) from error
    is_well = not findings and not registry.problems
    if as_json:
        problems = [problem_fields(problem) for problem in registry.problems]
        report = {"ok": is_well, "plugins": len(registry.types), "configurations": checked, "problems": problems}
        click.echo(json.dumps({**report, "findings": msgspec.to_builtins(findings)}, indent=2))
    else:
        for fault in (*registry.problems, *findings):
            click.echo(str(fault))
        verdict = "all is well" if is_well else _count(len(registry.problems) + len(findings), "problem")
        click.echo(f"{_count(len(registry.types), 'plugin')}, {_count(checked, 'configuration')}: {verdict}")
    sys.exit(0 if is_well else 1)


def reasons_against(registry: Registry, found: FoundConf) -> Iterator[tuple[int, str]]:
    """Say all that is wrong with a configuration, with the lines: its form, its plugins, or their own configurations."""
    entries = found.content.get("conf", []) if isinstance(found.content, dict) else None
    if not isinstance(entries, list):
        yield found.line, "this must be a mapping in which conf is a list of plugins, each with a name and a value"
        return
    for number, entry in enumerate(entries, 1):
        line = getattr(entry, "line", found.line)
        if reason := _form(entry):
            yield line, f"plugin {number}: {reason}"
            continue
        # One by one, and not as a chain: its reasons are one text, and each of them has a line of its own here.
        name = entry["name"]
        chain = build_chain(registry, [(name, entry["value"])], f"route#1#{found.phase}#1", response=found.phase is Phase.POST_RESP)
        if chain.refusal:
            yield line, f"plugin {number}, {name}: {chain.refusal.removeprefix(f'plugin 1 of 1, {name}: ')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _form(entry: Any) -> str | None:
    """Say what the gateway itself would refuse of an entry. Source: gateway contract, 3."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not isinstance(entry.get("value"), str):
        return "it must have a name and a value, and both must be texts; JSON in a value stands in quotes"
    if not 1 <= len(entry["name"]) <= MAX_NAME_LENGTH:
        return f"a name has 1 to {MAX_NAME_LENGTH} characters, this one has {len(entry['name'])}"
    return None
