# SPDX-License-Identifier: Apache-2.0
"""
Test plugins without a gateway.

`Client` runs the hooks of plugins in this process, with the runner's own wire protocol, registry, chains and engine. It returns what the
client and the upstream would get. The package includes a pytest plugin with the fixture `client`.

`client.py` has `Client`; start reading there. `verbs.py` has its methods for HTTP methods, and `options.py` their keyword arguments.
`sending/` has what a test sends, `running/` runs the call, and `results/` has what a test examines.
`replaying/` runs recorded calls again. `pytest_plugin.py` has the fixtures.
`release_01.py` and `release_02.py` have the requests and responses of the legacy APIs, for old tests.

The public names are imported when they are first used, because pytest imports this package whenever it starts.

May import: everything in `runner` up to `call`, and `compiled`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apisix.runner.errors import ChainRefused, DeadlineExceeded
    from apisix.runner.records.format import UnreadableRecord
    from apisix.testing.client import Client
    from apisix.testing.replaying.comparable import NotComparable
    from apisix.testing.replaying.differences import Difference
    from apisix.testing.replaying.parametrizing import records
    from apisix.testing.replaying.reading import RecordedCall, RecordFile
    from apisix.testing.replaying.replayed import ReplayResult
    from apisix.testing.results.result import ClientResponse, Effect, Result, UpstreamRequest

__all__ = [
    "ChainRefused",
    "Client",
    "ClientResponse",
    "DeadlineExceeded",
    "Difference",
    "Effect",
    "NotComparable",
    "RecordFile",
    "RecordedCall",
    "ReplayResult",
    "Result",
    "UnreadableRecord",
    "UpstreamRequest",
    "records",
]

_homes = {
    "ChainRefused": "apisix.runner.errors",
    "Client": "apisix.testing.client",
    "ClientResponse": "apisix.testing.results.result",
    "DeadlineExceeded": "apisix.runner.errors",
    "Difference": "apisix.testing.replaying.differences",
    "Effect": "apisix.testing.results.result",
    "NotComparable": "apisix.testing.replaying.comparable",
    "RecordFile": "apisix.testing.replaying.reading",
    "RecordedCall": "apisix.testing.replaying.reading",
    "ReplayResult": "apisix.testing.replaying.replayed",
    "Result": "apisix.testing.results.result",
    "UnreadableRecord": "apisix.runner.records.format",
    "UpstreamRequest": "apisix.testing.results.result",
    "records": "apisix.testing.replaying.parametrizing",
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
