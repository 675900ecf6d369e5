# SPDX-License-Identifier: Apache-2.0
"""Read a file of records."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apisix.runner.records.format import CallRecord, ConfigurationRecord, IncompleteRecord, UnreadableRecord, decode
from apisix.testing.sending.query import written_query


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """
    A call of a file of records, for `client.replay`.

    Attributes:
        call: the record of the call.
        configuration: the plugins of its route; None if the file does not contain them.
    """

    call: CallRecord
    configuration: ConfigurationRecord | None

    @property
    def request_line(self) -> str:
        """The method, path and arguments of a request, or the status of a response."""
        return request_line(self.call)


def request_line(call: CallRecord) -> str:
    """Return the method, path and arguments of a request, or the status of a response."""
    if call.request is not None:
        args = f"?{written_query(call.request.args)}" if call.request.args else ""
        return f"{call.request.method} {call.request.path}{args}"
    return "a call" if call.response is None else f"response {call.response.status}"


class RecordFile:
    """
    The calls of a file of records, in order. They are read while the object is iterated over.

    Args:
        path: the file.
        route: only calls with this route key, or with one that begins with it, as in "route#1"; None for all.
        plugins: only calls with at least one of these plugins; empty for all.
    Attributes:
        read_bytes: how much of the file has been read.
        notes: what the reader should know about the file, in sentences.
    """

    def __init__(self, path: str | Path, *, route: str | None = None, plugins: tuple[str, ...] = ()) -> None:
        self.path = Path(path)
        self.read_bytes = 0
        self.notes: list[str] = []
        self._route = route
        self._plugins = frozenset(plugins)
        self._configurations: dict[str, ConfigurationRecord] = {}

    def __iter__(self) -> Iterator[RecordedCall]:
        """
        Yield the calls.

        Raises:
            OSError: the file can't be read.
            UnreadableRecord: a line is not a record. Incomplete lines are left out with a note. The last one may still be written, and
                others were cut off when a process was killed.
        """
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                self.read_bytes += len(line)
                if not line.strip():
                    continue
                try:
                    record = decode(line)
                except IncompleteRecord:
                    self.notes.append(f"{self.path}, line {number} is incomplete, so it was left out")
                    continue
                except UnreadableRecord as error:
                    raise UnreadableRecord(f"{self.path}, line {number}: {error}") from None
                if isinstance(record, ConfigurationRecord):
                    self._configurations[record.digest] = record
                elif self._is_wanted(record):
                    yield RecordedCall(record, self._configurations.get(record.configuration))

    def _is_wanted(self, record: CallRecord) -> bool:
        if self._plugins and self._plugins.isdisjoint(record.plugins):
            return False
        return self._route is None or f"{record.route_key}#".startswith(f"{self._route.removesuffix('#')}#")
