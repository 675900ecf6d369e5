# SPDX-License-Identifier: Apache-2.0
"""A plugin and functions for the tests of `check`."""

from pathlib import Path

from click.testing import CliRunner, Result

from apisix.cli.commands import commands

PLUGIN = '''
from dataclasses import dataclass

from apisix import Plugin, Request


@dataclass
class SayConfig:
    times: int


class Say(Plugin[SayConfig]):
    """Add a header to the request of the upstream."""

    def on_request(self, request: Request) -> None:
        request.headers["x-say"] = "it"
'''


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments], prog_name="apisix-runner")


def check(plugins: Path, name: str, text: str) -> tuple[int, list[str]]:
    """Check a file of routes. Return the exit status and the lines, without the directory of the file."""
    file = plugins.parent / name
    file.write_text(text)
    result = invoke("check", "--plugins", plugins, file)
    return result.exit_code, result.output.replace(f"{plugins.parent}/", "").splitlines()
