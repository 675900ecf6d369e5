# SPDX-License-Identifier: Apache-2.0
"""From a route's configuration to the chain of plugins that its calls run through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from apisix.runner.http.phase import Phase
    from apisix.runner.plugin.plugin_type import PluginType

OnError = Literal["refuse", "pass", "degrade"]


@dataclass(slots=True)
class Link:
    """
    One plugin in a chain, configured: what a call runs at this place.

    `hook` takes the request or the response and returns None, a Reply, or an awaitable of these where `is_coroutine`.
    The older generations are wrapped so that their hooks keep the same contract.
    """

    name: str
    hook: Callable[[Any], object]
    is_coroutine: bool
    needs: tuple[str, ...]
    on_error: OnError | None
    plugin_type: PluginType
    instance: object
    setup: Callable[[], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(slots=True)
class Chain:
    """
    The plugins of one configuration, in the order that the gateway gave.

    `refusal` is the reason in full why calls of this configuration can't run, None where they can. A refused chain has
    no links.
    """

    links: tuple[Link, ...] = ()
    phase: Phase | None = None
    key: str | None = None
    refusal: str | None = None
