# SPDX-License-Identifier: Apache-2.0
"""Change the path or an argument, as configured."""

from dataclasses import dataclass

from apisix import Plugin, Request


@dataclass
class EditConfig:
    """`edit` is "argument", or the path to set."""

    edit: str


class BenchEditPath(Plugin[EditConfig]):
    """Set an argument or the path."""

    def on_request(self, request: Request) -> None:
        if self.config.edit == "argument":
            request.args["page"] = "5"
        else:
            request.path = self.config.edit
