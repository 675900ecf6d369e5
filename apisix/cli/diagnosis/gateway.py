# SPDX-License-Identifier: Apache-2.0
"""The gateway's `config.yaml`, as far as it concerns the runner. Source: gateway contract, 1 and 8."""

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
from apisix.cli.diagnosis.finding import Finding, Findings, ok, problem, warning
from apisix.cli.diagnosis.release import ANSWERS_EVERYTHING, INFO_IN_RESPONSES, USUAL_PLACE, found_release

__all__ = ["USUAL_PLACE", "GatewayConfig", "look_at_gateway", "read_gateway_config"]

PHASES: Final = ("ext-plugin-pre-req", "ext-plugin-post-req", "ext-plugin-post-resp")
_OURS: Final = ("apisix-runner", "py-runner", "main.py", "apisix")
_MANAGED_NAME: Final = re.compile(r"apisix-([1-9][0-9]{0,9})\.sock")
_VARIABLE: Final = re.compile(r"\$\{\{.*\}\}")
"""Where the gateway puts a variable of its own environment in, which is not ours."""


@dataclass(frozen=True)
class GatewayConfig:
    """What the gateway's configuration says of us. `content` is all of it."""

    path: Path
    content: Mapping[str, Any]

    @property
    def ext_plugin(self) -> Mapping[str, Any]:
        """The section `ext-plugin`, empty where there is none."""
        section = self.content.get("ext-plugin")
        return section if isinstance(section, dict) else {}

    @property
    def given_path(self) -> str | None:
        """The path on which the gateway looks for a runner that it does not start; None where it does not say one that is known here."""
        path = self.ext_plugin.get("path_for_test")
        return path if isinstance(path, str) and not _VARIABLE.search(path) else None

    def managed_path(self) -> str | None:
        """Return where a runner listens that this gateway has started; None where none is seen."""
        try:
            names = os.listdir(self.path.parent)
        except OSError:
            return None
        living = [name for name in names if (match := _MANAGED_NAME.fullmatch(name)) and processes.is_alive(int(match[1]))]
        return str(self.path.parent / living[0]) if len(living) == 1 else None

    def users(self) -> set[int]:
        """Return the user that the workers are told to run as, where that is said and exists here."""
        nginx = self.content.get("nginx_config")
        name = nginx.get("user") if isinstance(nginx, dict) else None
        try:
            return {pwd.getpwnam(str(name)).pw_uid} - {0} if name else set()
        except KeyError:
            return set()


def read_gateway_config(path: Path) -> GatewayConfig | Finding:
    """Read a `config.yaml`, or say why it can't be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        return problem("gateway", f"{path} can't be read: {error.strerror}", "Name the gateway's conf/config.yaml")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        return problem("gateway", f"{path}{'' if line is None else f', line {line + 1}'} is no YAML", "The gateway does not read it either")
    if not isinstance(content, dict):
        return problem("gateway", f"{path} holds no settings", "Name the gateway's conf/config.yaml")
    return GatewayConfig(path, content)


def look_at_gateway(config: GatewayConfig, socket_path: str) -> Findings:
    """Compare the gateway's configuration with what a runner on `socket_path` needs."""
    yield from _look_at_release(config)
    yield from _look_at_list(config)
    cmd = config.ext_plugin.get("cmd")
    given = config.ext_plugin.get("path_for_test")
    if not cmd and not given:
        yield problem(
            "gateway",
            f"{config.path} names no runner",
            "Under ext-plugin, set cmd to the command that starts one, or path_for_test to the path of one that you start yourself",
        )
    if cmd and given:
        yield warning(
            "gateway",
            "cmd and path_for_test are both set: the gateway starts a runner of its own on the path of yours",
            "Keep cmd to let the gateway start it, or path_for_test to start it yourself",
        )
    if cmd:
        yield from _look_at_cmd(cmd)
    if given:
        yield from _look_at_path(given, socket_path)


def _look_at_release(config: GatewayConfig) -> Findings:
    release = found_release(config.path)
    if release is None:
        return
    if release.number >= ANSWERS_EVERYTHING:
        yield ok("gateway", f"{release} has all that plugins can use")
    if release.number < INFO_IN_RESPONSES:
        yield warning("gateway", release.warning_of_responses(), "Keep plugins that read a response off this gateway, or upgrade it")
    for sentence in release.lacks():
        yield warning("gateway", sentence, "Keep plugins that need it off this gateway, or upgrade it")


def _look_at_list(config: GatewayConfig) -> Findings:
    listed = config.content.get("plugins")
    if listed is None:
        yield ok("gateway", f"{config.path} has no list of plugins, so the gateway's own holds, in which the three phases are")
        return
    found = [phase for phase in PHASES if isinstance(listed, list) and phase in listed]
    missing = ", ".join(phase for phase in PHASES if phase not in found)
    if not found:
        yield problem("gateway", f"plugins in {config.path} lacks {missing}: no route can use a runner", "Add those that routes use")
    elif found == [PHASES[2]]:
        yield problem(
            "gateway",
            f"plugins in {config.path} has {PHASES[2]} only, and then the gateway makes no memory for tokens, so each call of it fails",
            f"Add {PHASES[0]} or {PHASES[1]} too",
        )
    elif missing:
        yield warning("gateway", f"plugins in {config.path} lacks {missing}: routes that name it are refused", "Add it where routes use it")
    else:
        yield ok("gateway", f"plugins in {config.path} has the three phases")


def _look_at_cmd(cmd: object) -> Findings:
    if not isinstance(cmd, list) or not all(isinstance(word, str) for word in cmd):
        yield problem("gateway", "cmd is not a list of texts", 'Write each word by itself, as in ["apisix-runner", "start"]')
        return
    program, *arguments = cmd
    if any(_VARIABLE.search(word) for word in cmd):
        yield warning("gateway", "cmd holds a variable of the gateway's environment, which is not known here", "See that it is set there")
        return
    found = shutil.which(program)
    if found is None:
        yield problem(
            "gateway", f"cmd begins with {program}, which is not there or can't be executed", "Write the whole path, and look at its mode"
        )
    for script in [word for word in arguments if word.startswith("/") and word.endswith(".py")][:1]:
        if not os.access(script, os.R_OK):
            yield problem("gateway", f"cmd names {script}, which can't be read", "Correct the path, or its mode")
    is_ours = any(os.path.basename(word) in _OURS for word in cmd)
    if is_ours and "start" not in arguments:
        yield problem(
            "gateway", "cmd lacks the word start, so the runner ends at once, and is started again every 3 s", 'Add "start" to cmd'
        )
    elif is_ours and found:
        yield ok("gateway", f"cmd starts this runner with {found}")
    elif found:
        yield warning(
            "gateway", f"cmd starts {os.path.basename(program)}, which does not look like this runner", "See that it is what you want"
        )


def _look_at_path(given: object, socket_path: str) -> Findings:
    if not isinstance(given, str) or _VARIABLE.search(given):
        yield warning(
            "gateway", "path_for_test is not known here: the gateway takes it from its environment", f"It has to be {socket_path}"
        )
    elif given.startswith("unix:"):
        yield problem("gateway", f"path_for_test is {given}, and the gateway puts another unix: before it", f"Write {given[5:]}")
    elif os.path.abspath(given) != socket_path:
        yield problem(
            "gateway",
            f"path_for_test is {given}, but the runner's socket.file is {socket_path}",
            "Make them the same. In containers, it has to be the same directory too, as a volume of both",
        )
    else:
        yield ok("gateway", f"path_for_test is the runner's socket, {socket_path}")
