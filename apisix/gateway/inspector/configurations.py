# SPDX-License-Identifier: Apache-2.0
"""The configurations of the runner's plugins in the current definitions, and their secrets."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from apisix.gateway.inspector.plugin_check import PluginCheck
from apisix.gateway.inspector.server import ApiError, Inspector
from apisix.gateway.resources.definitions import Record
from apisix.gateway.resources.store import Store
from apisix.runner.http.phase import Phase
from apisix.runner.records.redaction import DIGEST, Redactor, digest

ALL_SECRET: Final[Mapping[str, Any]] = {"writeOnly": True}
"""The schema of a plugin that could not be loaded: it is not known which values are secret."""
SHOWN: Final = ("routes", "services", "plugin_configs", "consumer_groups", "consumers", "global_rules")
"""The kinds of definitions that can contain plugins of the runner."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The configuration of a plugin, at a place in a definition."""

    phase: str
    index: int
    name: str
    value: str


@dataclass(slots=True)
class Secrets:
    """
    The secrets of configurations.

    Attributes:
        originals: values by their digests.
        redactor: replaces the secrets that it has found.
    """

    originals: dict[str, Any] = field(default_factory=dict)
    redactor: Redactor = field(default_factory=Redactor)

    def add(self, value: str, schema: Mapping[str, Any]) -> str:
        """Return a configuration without secrets, and remember them."""
        shown = self.redactor.configuration(value, schema)
        if shown != value:
            self.originals = {found: secret for secret, found in self.redactor.known.items()} | self.originals
            # A number is a secret too, and must become a number again.
            numbers = {digest(str(part)): part for part in _scalars(_parsed(value)) if isinstance(part, int | float)}
            self.originals |= {found: number for found, number in numbers.items() if found in self.originals}
        return shown

    def restored(self, value: str) -> str:
        """
        Return a configuration in which digests are replaced by the secrets.

        Raises: ApiError: a digest is not known.
        """
        if not DIGEST.search(value):
            return value
        parsed = _parsed(value)
        if parsed is None:
            return self._text(value)
        return msgspec.json.encode(self._json(parsed)).decode()

    def hidden(self, text: str) -> str:
        """Return a text without the secrets."""
        return msgspec.json.decode(self.redactor.line(msgspec.json.encode(text)), type=str)

    def _json(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.originals[value] if value in self.originals else self._text(value)
        if isinstance(value, list):
            return [self._json(item) for item in value]
        if isinstance(value, dict):
            return {name: self._json(item) for name, item in value.items()}
        return value

    def _text(self, text: str) -> str:
        def secret(match: re.Match[str]) -> str:
            if match[0] not in self.originals:
                raise ApiError(400, f"the secret of {match[0]} is not known any more: write the secret instead, or load the page again")
            return str(self.originals[match[0]])

        return DIGEST.sub(secret, text)


class Configurations:
    """
    The configurations in the current definitions.

    A plugin can print its configuration whenever it runs, so the secrets are registered with the inspector as soon as the gateway has the
    configuration. Which values are secret is in the plugins' schemas, which a child process finds out. Until it has, those of before apply,
    and all texts in configurations of plugins that are not known are secret.
    """

    def __init__(self, inspector: Inspector, store: Store, check: PluginCheck) -> None:
        self._inspector = inspector
        self._store = store
        self._check = check
        self._schemas: Mapping[str, Mapping[str, Any]] = {}
        self._has_changed = asyncio.Event()
        store.on_change = self.changed
        check.on_forget = self.changed

    def changed(self) -> None:
        """Called when definitions or plugins have changed."""
        self._inspector.configured = self._secrets(self._schemas).redactor.known
        self._has_changed.set()

    async def follow(self) -> None:
        """Register the secrets with the current schemas after each change, until this is cancelled."""
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            if any(any(entries_of(record)) for record in self.records()):
                try:
                    self._schemas = await self._check.schemas()
                except (ApiError, OSError):  # the view "Routes" shows the reason when it is opened
                    continue
                known = self._secrets(self._schemas).redactor.known
                self._inspector.configured = known
                # A worker may print a configuration after it was replaced by another one.
                self._inspector.flows.learn(known)

    def records(self) -> Iterator[Record]:
        """Yield all routes, and the other definitions that contain plugins of the runner."""
        for kind in SHOWN:
            for record in self._store.records(kind).values():
                if kind == "routes" or any(entries_of(record)):
                    yield record

    async def secrets(self) -> Secrets:
        """
        Return the secrets of all current configurations.

        Raises: ApiError: the schemas are not known, because the child process failed.
        """
        return self._secrets(await self._check.schemas())

    def _secrets(self, schemas: Mapping[str, Mapping[str, Any]]) -> Secrets:
        secrets = Secrets()
        for record in self.records():
            for entry in entries_of(record):
                secrets.add(entry.value, schemas.get(entry.name, ALL_SECRET))
        return secrets


def entries_of(record: Record) -> Iterator[Entry]:
    """Yield the configurations of plugins of the runner in a definition. What does not have the form that APISIX requires is left out."""
    plugins = record.value.get("plugins")
    for phase in Phase:
        plugin = plugins.get(phase) if isinstance(plugins, dict) else None
        chain = plugin.get("conf") if isinstance(plugin, dict) else None
        for index, entry in enumerate(chain if isinstance(chain, list) else ()):
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("value"), str):
                yield Entry(str(phase), index, entry["name"], entry["value"])


def _parsed(value: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _scalars(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value
