# SPDX-License-Identifier: Apache-2.0
"""Tell the client who has replied."""

from dataclasses import dataclass

from apisix import Plugin, Response


@dataclass
class ServedByConfig:
    """The value of the header x-served-by."""

    name: str


class ServedBy(Plugin[ServedByConfig]):
    """Set the header x-served-by of each response."""

    def on_response(self, response: Response) -> None:
        response.headers["x-served-by"] = self.config.name
