# SPDX-License-Identifier: Apache-2.0
"""Validate a configuration of the runner as the gateway and the runner do."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from apisix.cli.routes.found import FoundConf, RouteProblem
from apisix.runner.errors import ChainRefused
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import Problem

MAX_NAME_LENGTH = 128  # source: gateway contract, 3
_KEYS = ("conf", "allow_degradation", "_meta")
_ENTRY_KEYS = ("name", "value")
_VARIABLE = re.compile(r"\$\{\{.*?\}\}")
"""A variable that APISIX replaces in a stand-alone file."""
_ADC_VARIABLE = re.compile(r"(?<!\\)\$\{\w+\}")
"""A variable that adc replaces before it sends a value to the gateway. Source: its configuration reference, variables."""


def problems_of(registry: Registry, found: FoundConf, notes: list[str]) -> Iterator[RouteProblem]:
    """
    Yield the problems of a configuration: of its form, of its plugins, and of the configurations of the plugins.

    Args:
        registry: the plugins.
        found: the configuration.
        notes: a note is added for each part that can't be checked, because it is replaced before the runner receives it.
    """
    for line, reason in _reasons(registry, found, notes):
        yield RouteProblem(found.file, line, found.holder, str(found.phase), reason)


def _reasons(registry: Registry, found: FoundConf, notes: list[str]) -> Iterator[tuple[int, str]]:
    content = found.content
    entries = content.get("conf", []) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not isinstance(content, dict):
        yield found.line, "this must be a mapping in which conf is a list of plugins, each with a name and a value"
        return
    yield from _key_problems(content, _KEYS, found.line)
    if "conf" in content and not entries:
        yield found.line, "conf is empty, which APISIX refuses; remove it if no plugin should run"
    if not isinstance(content.get("allow_degradation", False), bool):
        yield found.line, "allow_degradation must be true or false"
    for number, entry in enumerate(entries, 1):
        line = getattr(entry, "line", found.line)
        if wrong_form := _form(entry):
            yield line, f"plugin {number}: {wrong_form}"
            continue
        for at, wrong_key in _key_problems(entry, _ENTRY_KEYS, line):
            yield at, f"plugin {number}: {wrong_key}"
        # A chain is built for each plugin, because a chain has one text for all its problems, but here each problem has its own line.
        name = entry["name"]
        plugin = registry.get(name)
        if isinstance(plugin, Problem):  # it is printed in full with the problems of the plugins
            place = f"{plugin.file}:{plugin.line}" if plugin.line else plugin.file
            yield line, f"plugin {number}, {name}: the plugin could not be loaded; see {place}"
            continue
        configuration = RouteConfiguration(f"route#1#{found.phase}#1", ((name, entry["value"]),))
        chain = build_chain(registry, configuration, response=found.phase is Phase.POST_RESP)
        reason = chain.problem.removeprefix(f"plugin 1 of 1, {name}: ") if chain.problem else _failed_configuration(chain)
        variable = (_ADC_VARIABLE if found.is_adc else _VARIABLE).search(entry["value"])
        if reason and variable is not None and plugin is not None:
            where = f"{found.holder}, {found.phase}: plugin {number}, {name}" + (f" (line {line})" if line else "")
            notes.append(f"{where}: the value contains {variable[0]}, which is replaced later, so it was not checked")
        elif reason:
            yield line, f"plugin {number}, {name}: {reason}"


def _failed_configuration(chain: Chain) -> str | None:
    """Return why a plugin that is configured for each call can't be configured, or None."""
    try:
        for step in chain.steps:
            if step.configure is not None:
                step.configure()
    except ChainRefused as refused:
        return str(refused)
    return None


def _key_problems(mapping: dict[Any, Any], known: tuple[str, ...], line: int) -> Iterator[tuple[int, str]]:
    """Yield keys that APISIX ignores, and keys that occur twice."""
    for key, at in getattr(mapping, "repeated", ()):
        yield at, f"the key {key} is here twice, and only the last one counts"
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            yield getattr(mapping, "lines", {}).get(key, line), f"APISIX ignores the key {key}; {advice}"


def _form(entry: Any) -> str | None:
    """Return why the gateway would refuse an entry, or None. Source: gateway contract, 3."""
    if not isinstance(entry, dict):
        return f"this must be a mapping with a name and a value, not {_in_words(entry)}"
    for key in _ENTRY_KEYS:
        if key not in entry:
            return f"it has no {key}, but must have a name and a value"
        if not isinstance(entry[key], str):
            advice = "; write the JSON of the configuration in quotes" if key == "value" else ""
            return f"its {key} must be a string, not {_in_words(entry[key])}{advice}"
    if not 1 <= len(entry["name"]) <= MAX_NAME_LENGTH:
        return f"a name must have 1 to {MAX_NAME_LENGTH} characters, but this one has {len(entry['name'])}"
    return None


def _in_words(value: object) -> str:
    """Return the type of a value in YAML, for a message. The value itself may be a secret."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = ((dict, "a mapping"), (list, "a list"), (str, "a string"), (int | float, "a number"))
    return next((name for kind, name in names if isinstance(value, kind)), "a date")
