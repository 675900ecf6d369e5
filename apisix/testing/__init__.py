# SPDX-License-Identifier: Apache-2.0
"""
Test plugins without any gateway.

`Client` runs a plugin's hooks in this process, through the runner's own codec, registry, chain and engine, and shows what the
client and the upstream would see. A pytest plugin comes with the package: its fixture is named `client`.

`client` has `Client`, and `verbs` its methods for HTTP methods. `sent` is what a test sends, `result` what it examines: `gateway_view`
computes what the client and the upstream would see. `engine` runs the call, over the connection of `line`. `entries` reads `plugins=[...]`.

The names are imported on first use, because pytest imports this package at each start. Start reading in `client.py`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apisix.runner.call.observing.effects import Effect
    from apisix.runner.errors import ChainRefused, DeadlineExceeded
    from apisix.testing.client import Client
    from apisix.testing.result import ClientResponse, Result, UpstreamRequest

__all__ = ["ChainRefused", "Client", "ClientResponse", "DeadlineExceeded", "Effect", "Result", "UpstreamRequest"]

_homes = {
    "ChainRefused": "apisix.runner.errors",
    "Client": "apisix.testing.client",
    "ClientResponse": "apisix.testing.result",
    "DeadlineExceeded": "apisix.runner.errors",
    "Effect": "apisix.runner.call.observing.effects",
    "Result": "apisix.testing.result",
    "UpstreamRequest": "apisix.testing.result",
}


def __getattr__(name: str) -> object:
    home = _homes.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
