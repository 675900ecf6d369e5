# SPDX-License-Identifier: Apache-2.0
"""What happened to one request: values that `show` prints and tools read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PluginEffect:
    """What one plugin did in one call, as the runner reports it."""

    plugin: str
    duration_s: float
    changes: tuple[str, ...] = ()
    error: str | None = None


@dataclass(slots=True)
class PhaseReport:
    """
    One call to the runner, as the gateway saw it.

    Attributes:
        effects: what the single plugins did, where the runner reports that.
        key: of the configuration, as PrepareConf names it.
        refusal: why the runner refuses each call of this configuration, where it has said so.
    """

    phase: str
    plugins: tuple[str, ...]
    call_id: int | None = None
    duration_s: float = 0.0
    changes: tuple[str, ...] = ()
    error: str | None = None
    effects: Sequence[PluginEffect] = ()
    key: str | None = None
    refusal: str | None = None


@dataclass(slots=True)
class RequestReport:
    """
    One request, from the first byte to the last.

    Attributes: asked_twice: whether the upstream was asked a second time, after ext-plugin-post-resp had nothing to print.
    """

    method: str
    target: str
    status: int = 0
    duration_s: float = 0.0
    route_id: str | None = None
    upstream: str | None = None
    phases: list[PhaseReport] = field(default_factory=list)
    error: str | None = None
    asked_twice: bool = False


class EffectSource(Protocol):
    """Where the effects of single plugins come from: a runner that was started for this."""

    async def take(self, call_id: int) -> Sequence[PluginEffect]:
        """Return what each plugin of a call did, in the order of the chain; () where nothing is known."""

    def refusal(self, key: str) -> str | None:
        """Return why all calls of a configuration are refused; None where nothing is known of that."""


class NoEffects:
    """A runner that reports nothing."""

    async def take(self, call_id: int) -> Sequence[PluginEffect]:
        """Return nothing."""
        return ()

    def refusal(self, key: str) -> str | None:
        """Return nothing."""
        return None
