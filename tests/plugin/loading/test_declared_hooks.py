# SPDX-License-Identifier: Apache-2.0
"""
The hooks that `Plugin` declares: for editors and type checkers, without being hooks of every plugin.

`mypy --strict` checks this file: it refuses a `type: ignore` that ignores nothing, so the signatures marked with one are refused.
"""

import asyncio
from typing import Any

import pytest

from apisix import Plugin, Reply, Request, Response
from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.chain.builder import build_chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin import defines
from apisix.testing.running.entries import OfferingRegistry, Offers


class Plain(Plugin):
    def on_request(self, request: Request) -> Reply | None:
        assert super().on_request(request) is None
        return None

    def on_response(self, response: Response) -> None:
        super().on_response(response)


class Coroutine(Plugin):
    async def on_request(self, request: Request) -> Reply | None:
        return None

    async def on_response(self, response: Response) -> None:
        response.status = 404

    async def setup(self) -> None:
        await super().setup()

    async def close(self) -> None:
        await super().close()


class OnlyRequest(Plugin):
    def on_request(self, request: Request) -> None:
        """Do nothing."""


class OnlyResponse(Plugin):
    def on_response(self, response: Response) -> None:
        """Do nothing."""


class WrongTypes(Plugin):
    def on_request(self, request: Response) -> None:  # type: ignore[override]
        """Take the wrong thing."""

    async def on_response(self, response: Response) -> int:  # type: ignore[override]
        return 1

    def setup(self) -> None:  # type: ignore[override]
        """Be no coroutine."""


class TooManyArguments(Plugin):
    def on_request(self, request: Request, response: Response) -> None:  # type: ignore[override]
        """Take an argument that nobody gives."""


class Mixin:
    def on_request(self, request: Request) -> None:
        """Do nothing."""


class BehindPlugin(Plugin, Mixin):  # type: ignore[misc]
    """A class whose hook the declaration hides."""


class BeforePlugin(Mixin, Plugin):
    """A class whose hook comes first."""


def chain_of(cls: type[Plugin[Any]], *, response: bool) -> Any:
    conf, offered = Offers().conf_of([cls])
    registry = OfferingRegistry(Registry.load(builtins=False, entry_points=False))
    registry.offered = offered
    return build_chain(registry, RouteConfiguration(None, tuple(conf)), response=response)


@pytest.mark.parametrize(("cls", "response"), [(OnlyRequest, True), (OnlyResponse, False)])
def test_a_declared_hook_is_none(cls: type[Plugin[Any]], response: bool) -> None:
    """A plugin is refused for a phase whose hook it only inherits: it would do nothing there."""
    assert chain_of(cls, response=not response).refusal is None
    hook = "on_response" if response else "on_request"
    assert f"it has no {hook}" in str(chain_of(cls, response=response).refusal)


def test_setup_and_close() -> None:
    """A call waits for `setup` only if the plugin has one of its own."""
    step = chain_of(OnlyRequest, response=False).steps[0]
    assert (step.setup, step.close) == (None, None)
    step = chain_of(Coroutine, response=False).steps[0]
    asyncio.run(step.setup.ensure())
    asyncio.run(step.close())


def test_defines() -> None:
    """What counts is what a class has besides the declaration, inherited or not."""

    class Heir(OnlyRequest):
        """Inherits its hook."""

    assert [defines(cls, "on_request") for cls in (Plugin, Heir, OnlyResponse, BeforePlugin, BehindPlugin)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_hook_behind_plugin() -> None:
    """A class whose hook is hidden by the declaration is refused, and the advice names the right order."""
    with pytest.raises(ChainRefused, match=r"write class BehindPlugin\(Mixin, Plugin\)"):
        chain_of(BehindPlugin, response=False)
