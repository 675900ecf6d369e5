# SPDX-License-Identifier: Apache-2.0
"""
Validate configurations for the inspector of `dev`: `python -m apisix.cli.routes.for_inspector`.

The development gateway must not import plugins, so it starts this program. Standard input is a JSON list of `[phase, plugin, value]`.
Standard output is an object: `schemas` has the JSON Schema of each plugin by name, and `problems` has a list of texts for each entry.
"""

import os
import sys

import click
import msgspec

from apisix.cli.loading import load_registry
from apisix.cli.options.flags import setting_flags
from apisix.cli.routes.found import FoundConf
from apisix.cli.routes.validation import problems_of
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.loading.registry import Registry


@click.command()
@setting_flags(["plugins"])
def configurations(**flags: object) -> None:
    """Validate the configurations on standard input."""
    entries = msgspec.json.decode(sys.stdin.buffer.read(), type=list[tuple[str, str, str]])
    output = os.dup(1)
    os.dup2(2, 1)  # what plugins print must not get between the JSON
    registry = load_registry(flags)
    result = {
        "schemas": {found.name: found.config_schema() for found in registry.types},
        "problems": [_problems(registry, *entry) for entry in entries],
    }
    with open(output, "wb") as file:
        file.write(msgspec.json.encode(result))


def _problems(registry: Registry, phase: str, name: str, value: str) -> list[str]:
    found = FoundConf("", 0, "", Phase(phase), {"conf": [{"name": name, "value": value}]})
    return [problem.reason.removeprefix(f"plugin 1, {name}: ") for problem in problems_of(registry, found, [])]


if __name__ == "__main__":
    configurations()
