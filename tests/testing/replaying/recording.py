# SPDX-License-Identifier: Apache-2.0
"""Write records of calls of the test kit into a file."""

from collections.abc import Iterable
from pathlib import Path

from apisix.runner.call.observing.making import RecordMaker
from apisix.testing import Client, RecordedCall, Result


def write_records(file: Path, results: Iterable[Result], maker: RecordMaker | None = None) -> Path:
    """Write the record of each result, and before the first call of each configuration its record, as the recorder does."""
    maker = RecordMaker() if maker is None else maker
    configurations = set()
    lines = []
    for result in results:
        trace = result._trace
        assert trace is not None
        configuration = maker.encode_configuration(trace.chain)
        if configuration not in configurations:
            configurations.add(configuration)
            lines.append(configuration)
        lines.append(maker.encode(trace))
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    return file


def recorded(result: Result, maker: RecordMaker | None = None) -> RecordedCall:
    """Return the record of a result, with its configuration."""
    maker = RecordMaker() if maker is None else maker
    trace = result._trace
    assert trace is not None
    return RecordedCall(maker.make(trace), maker.configuration(trace.chain))


def client_of(directory: Path, **plugins: str) -> Client:
    """Return a client for plugins with these sources. Args: plugins: the body of a class by its name."""
    directory.mkdir(exist_ok=True)
    for name, source in plugins.items():
        (directory / f"{name}.py").write_text(f"from apisix import Plugin, Reply\n\n\nclass {name.capitalize()}(Plugin):\n{source}\n")
    return Client([directory], raise_errors=False)
