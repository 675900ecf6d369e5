# SPDX-License-Identifier: Apache-2.0
"""
The hooks that `Plugin` declares for editors and type checkers. A plugin does not have a hook that it only inherits from `Plugin`.

`mypy --strict` checks this file too. It reports unused `type: ignore` comments, so each signature with such a comment is an error.
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
        """Take an argument of the wrong type."""

    async def on_response(self, response: Response) -> int:  # type: ignore[override]
        return 1

    def setup(self) -> None:  # type: ignore[override]
        """Not a coroutine function."""


class TooManyArguments(Plugin):
    def on_request(self, request: Request, response: Response) -> None:  # type: ignore[override]
        """Take an argument that the runner does not pass."""


class Mixin:
    def on_request(self, request: Request) -> None:
        """Do nothing."""


class BehindPlugin(Plugin, Mixin):  # type: ignore[misc]
    """A class whose hook is hidden by the one that `Plugin` declares."""


class BeforePlugin(Mixin, Plugin):
    """A class whose hook comes before the one that `Plugin` declares."""


def chain_of(cls: type[Plugin[Any]], *, response: bool) -> Any:
    conf, offered = Offers().conf_of([cls])
    registry = OfferingRegistry(Registry.load(builtins=False, entry_points=False))
    registry.offered = offered
    return build_chain(registry, RouteConfiguration(None, tuple(conf)), response=response)


@pytest.mark.parametrize(("cls", "response"), [(OnlyRequest, True), (OnlyResponse, False)])
def test_a_declared_hook_is_not_a_hook(cls: type[Plugin[Any]], response: bool) -> None:
    """A plugin is refused for a phase if it only inherits the hook from `Plugin`, which does nothing."""
    assert chain_of(cls, response=not response).problem is None
    hook = "on_response" if response else "on_request"
    assert f"it has no {hook}" in str(chain_of(cls, response=response).problem)


def test_setup_and_close() -> None:
    """A step has `setup` and `close` only if the plugin defines them."""
    step = chain_of(OnlyRequest, response=False).steps[0]
    assert (step.setup, step.close) == (None, None)
    step = chain_of(Coroutine, response=False).steps[0]
    asyncio.run(step.setup.ensure())
    asyncio.run(step.close())


def test_defines() -> None:
    """A class defines a hook if it has another function than `Plugin`, inherited or not."""

    class Derived(OnlyRequest):
        """Inherits its hook."""

    assert [defines(cls, "on_request") for cls in (Plugin, Derived, OnlyResponse, BeforePlugin, BehindPlugin)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_hook_behind_plugin() -> None:
    """A class whose hook is hidden by `Plugin` is refused. The advice has the correct order of the base classes."""
    with pytest.raises(ChainRefused, match=r"write class BehindPlugin\(Mixin, Plugin\)"):
        chain_of(BehindPlugin, response=False)
