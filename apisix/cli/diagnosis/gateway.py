# SPDX-License-Identifier: Apache-2.0
"""Examine the parts of the gateway's `config.yaml` that concern the runner. Source: gateway contract, 1 and 8."""

import os
import pwd
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from apisix.cli.diagnosis import processes
from apisix.cli.diagnosis.release import INFO_IN_RESPONSES, SUPPORTS_EVERYTHING, USUAL_PLACE, found_release
from apisix.cli.diagnosis.result import Result, Results, ok, problem, warning

__all__ = ["USUAL_PLACE", "GatewayConfig", "examine_gateway", "read_gateway_config"]

PHASES: Final = ("ext-plugin-pre-req", "ext-plugin-post-req", "ext-plugin-post-resp")
_OWN_PROGRAMS: Final = ("apisix-runner", "py-runner", "main.py", "apisix")
_MANAGED_NAME: Final = re.compile(r"apisix-([1-9][0-9]{0,9})\.sock")
_VARIABLE: Final = re.compile(r"\$\{\{.*\}\}")
"""A variable of the gateway's environment, whose value is not known here."""


@dataclass(frozen=True)
class GatewayConfig:
    """The gateway's configuration. `content` is all of it."""

    path: Path
    content: Mapping[str, Any]

    @property
    def ext_plugin(self) -> Mapping[str, Any]:
        """The section `ext-plugin`, or an empty one."""
        section = self.content.get("ext-plugin")
        return section if isinstance(section, dict) else {}

    def managed_path(self) -> str | None:
        """Return the socket of the runner that this gateway has started, or None if it is not found."""
        try:
            names = os.listdir(self.path.parent)
        except OSError:
            return None
        living = [name for name in names if (match := _MANAGED_NAME.fullmatch(name)) and processes.is_alive(int(match[1]))]
        return str(self.path.parent / living[0]) if len(living) == 1 else None

    def users(self) -> set[int]:
        """Return the user of the workers, if the configuration names one that exists here."""
        nginx = self.content.get("nginx_config")
        name = nginx.get("user") if isinstance(nginx, dict) else None
        try:
            return {pwd.getpwnam(str(name)).pw_uid} - {0} if name else set()
        except KeyError:
            return set()


def read_gateway_config(path: Path) -> GatewayConfig | Result:
    """Read a `config.yaml`. Return a problem if that fails."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        return problem("gateway", f"{path} can't be read: {error.strerror}", "Set --gateway-config to the gateway's conf/config.yaml")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        return problem(
            "gateway",
            f"{path}{'' if line is None else f', line {line + 1}'} is not YAML",
            "Correct it, because the gateway can't read it either",
        )
    if not isinstance(content, dict):
        return problem("gateway", f"{path} contains no settings", "Set --gateway-config to the gateway's conf/config.yaml")
    return GatewayConfig(path, content)


def examine_gateway(config: GatewayConfig, socket_path: str) -> Results:
    """Compare the gateway's configuration with the needs of a runner on `socket_path`."""
    yield from _examine_release(config)
    yield from _examine_list(config)
    cmd = config.ext_plugin.get("cmd")
    given = config.ext_plugin.get("path_for_test")
    if not cmd and not given:
        yield problem(
            "gateway",
            f"{config.path} configures no runner",
            "In ext-plugin, set cmd if the gateway should start the runner, or path_for_test to the socket of a runner that you start",
        )
    if cmd and given:
        yield warning(
            "gateway",
            "cmd and path_for_test are both set, so the gateway starts its own runner on the socket of yours",
            "Keep cmd if the gateway should start the runner, or path_for_test if you start it",
        )
    if cmd:
        yield from _examine_cmd(cmd)
    if given:
        yield from _examine_path(given, socket_path)


def _examine_release(config: GatewayConfig) -> Results:
    release = found_release(config.path)
    if release is None:
        return
    if release.number >= SUPPORTS_EVERYTHING:
        yield ok("gateway", f"{release} supports everything that plugins can use")
    if release.number < INFO_IN_RESPONSES:
        yield warning("gateway", release.warning_of_responses(), "Do not use plugins that read a response with this gateway, or upgrade it")
    for sentence in release.lacks():
        yield warning("gateway", sentence, "Do not use plugins that need it with this gateway, or upgrade it")


def _examine_list(config: GatewayConfig) -> Results:
    listed = config.content.get("plugins")
    if listed is None:
        yield ok("gateway", f"{config.path} has no list of plugins; the gateway's default list contains the three phases")
        return
    found = [phase for phase in PHASES if isinstance(listed, list) and phase in listed]
    missing = ", ".join(phase for phase in PHASES if phase not in found)
    if not found:
        yield problem(
            "gateway", f"plugins in {config.path} does not contain {missing}, so no route can use a runner", "Add those that routes use"
        )
    elif found == [PHASES[2]]:
        yield problem(
            "gateway",
            f"plugins in {config.path} contains only {PHASES[2]}. The gateway then allocates no memory for tokens, so each call fails",
            f"Add {PHASES[0]} or {PHASES[1]} too",
        )
    elif missing:
        yield warning(
            "gateway",
            f"plugins in {config.path} does not contain {missing}, so the gateway refuses routes that use it",
            "Add it if routes use it",
        )
    else:
        yield ok("gateway", f"plugins in {config.path} contains the three phases")


def _examine_cmd(cmd: object) -> Results:
    if not isinstance(cmd, list) or not all(isinstance(word, str) for word in cmd):
        yield problem("gateway", "cmd is not a list of strings", 'Write each word separately, as in ["apisix-runner", "start"]')
        return
    program, *arguments = cmd
    if any(_VARIABLE.search(word) for word in cmd):
        yield warning(
            "gateway",
            "cmd contains a variable of the gateway's environment, whose value is not known here",
            "Make sure that it is set in the environment of the gateway",
        )
        return
    found = shutil.which(program)
    if found is None:
        yield problem(
            "gateway", f"cmd begins with {program}, which does not exist or can't be executed", "Write its full path, and check its mode"
        )
    for script in [word for word in arguments if word.startswith("/") and word.endswith(".py")][:1]:
        if not os.access(script, os.R_OK):
            yield problem("gateway", f"cmd contains {script}, which can't be read", "Correct the path, or its mode")
    is_ours = any(os.path.basename(word) in _OWN_PROGRAMS for word in cmd)
    if is_ours and "start" not in arguments:
        yield problem(
            "gateway",
            "cmd does not contain start, so the runner exits at once, and the gateway starts it again every 3 s",
            'Add "start" to cmd',
        )
    elif is_ours and found:
        yield ok("gateway", f"cmd starts this runner with {found}")
    elif found:
        yield warning(
            "gateway",
            f"cmd starts {os.path.basename(program)}, which does not look like this runner",
            "If it should start this runner, correct cmd",
        )


def _examine_path(given: object, socket_path: str) -> Results:
    if not isinstance(given, str) or _VARIABLE.search(given):
        yield warning(
            "gateway",
            "path_for_test contains a variable of the gateway's environment, whose value is not known here",
            f"Make sure that it is {socket_path}",
        )
    elif given.startswith("unix:"):
        yield problem("gateway", f"path_for_test is {given}, but the gateway adds the prefix unix: itself", f"Write {given[5:]}")
    elif os.path.abspath(given) != socket_path:
        yield problem(
            "gateway",
            f"path_for_test is {given}, but the runner's socket.file is {socket_path}",
            "Use the same path for both. Containers must also share the directory, as a volume",
        )
    else:
        yield ok("gateway", f"path_for_test is the runner's socket, {socket_path}")
