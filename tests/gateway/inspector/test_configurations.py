# SPDX-License-Identifier: Apache-2.0
"""The secrets of configurations are replaced in events as soon as the gateway has the configurations."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest

from apisix.gateway.inspector.configurations import Configurations
from apisix.gateway.inspector.plugin_check import PluginCheck
from apisix.gateway.inspector.server import ApiError, Inspector
from apisix.gateway.resources.store import Store
from apisix.runner.records.redaction import digest

PHRASE = "correct-horse-battery"
SCHEMA = {"type": "object", "properties": {"phrase": {"type": "string", "writeOnly": True}, "tenant": {"type": "string"}}}
LINE = f"the phrase is {PHRASE}, the tenant is northern"
WITHOUT_PHRASE = f"the phrase is {digest(PHRASE)}, the tenant is northern"
WITHOUT_BOTH = f"the phrase is {digest(PHRASE)}, the tenant is {digest('northern')}"
UNREADABLE = ApiError(500, "the plugins could not be loaded")


class ScriptedCheck:
    """Returns schemas when the test has decided which ones."""

    def __init__(self) -> None:
        self.on_forget: Callable[[], None] = lambda: None
        self.results: asyncio.Queue[Mapping[str, Any] | ApiError] = asyncio.Queue()
        self.calls = 0

    async def schemas(self) -> Mapping[str, Any]:
        """Return the next result."""
        self.calls += 1
        result = await self.results.get()
        self.results.task_done()
        if isinstance(result, ApiError):
            raise result
        return result


@dataclass
class Followed:
    """An inspector whose configurations are followed, and the messages that it would send to a page."""

    inspector: Inspector
    store: Store
    check: ScriptedCheck

    def shown(self, text: str = LINE) -> str:
        """Return a line of the log as a page receives it."""
        page: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.inspector._pages.add(page)
        self.inspector.log({"message": text})
        self.inspector._pages.discard(page)
        return str(json.loads(cast("bytes", page.get_nowait()).partition(b"data: ")[2])["message"])

    def put(self, **configuration: str) -> None:
        """Give the gateway a route whose plugin has a configuration."""
        chain = {"conf": [{"name": "tag", "value": json.dumps(configuration)}]}
        self.store.put("routes", "1", {"uri": "/", "plugins": {"ext-plugin-pre-req": chain}})

    async def load(self, result: Mapping[str, Any] | ApiError) -> None:
        """Return these schemas to whoever waits for them, and wait until they were used."""
        self.check.results.put_nowait(result)
        async with asyncio.timeout(10):
            await self.check.results.join()


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    """Follow the configurations of a gateway that has none yet."""
    inspector, store, check = Inspector(), Store(), ScriptedCheck()
    configurations = Configurations(inspector, store, cast("PluginCheck", check))
    task = asyncio.create_task(configurations.follow())
    yield Followed(inspector, store, check)
    assert not task.done()
    task.cancel()


async def test_before_the_schemas_are_known(followed: Followed) -> None:
    """Each text of the configuration could be a secret."""
    followed.put(phrase=PHRASE, tenant="northern")

    assert followed.shown() == WITHOUT_BOTH


async def test_once_the_schemas_are_known(followed: Followed) -> None:
    followed.put(phrase=PHRASE, tenant="northern")
    await followed.load({"tag": SCHEMA})

    assert followed.shown() == WITHOUT_PHRASE


async def test_a_changed_configuration(followed: Followed) -> None:
    """The schemas of before apply at once, and the secrets of before are still replaced."""
    followed.put(phrase=PHRASE, tenant="northern")
    await followed.load({"tag": SCHEMA})
    followed.put(phrase="staple-and-more", tenant="southern")

    assert followed.shown() == WITHOUT_PHRASE
    assert followed.shown("staple-and-more southern") == f"{digest('staple-and-more')} southern"


async def test_reloaded_plugins(followed: Followed) -> None:
    """A field that the new schema marks is secret then."""
    followed.put(phrase=PHRASE, tenant="northern")
    await followed.load({"tag": SCHEMA})
    followed.check.on_forget()
    await followed.load({"tag": {"properties": {"tenant": {"secret": True}}}})

    assert followed.shown() == WITHOUT_BOTH


async def test_plugins_that_can_not_be_loaded(followed: Followed) -> None:
    """All texts stay secret until the plugins can be loaded."""
    followed.put(phrase=PHRASE, tenant="northern")
    await followed.load(UNREADABLE)
    assert followed.shown() == WITHOUT_BOTH

    followed.check.on_forget()
    await followed.load({"tag": SCHEMA})
    assert followed.shown() == WITHOUT_PHRASE


async def test_many_secrets_of_requests(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those of requests are forgotten."""
    monkeypatch.setattr("apisix.gateway.inspector.flows.MAX_SECRETS", 2)
    followed.put(phrase=PHRASE, tenant="northern")
    await followed.load({"tag": SCHEMA})
    followed.inspector.flows.learn({f"secret-{number}": f"digest-{number}" for number in range(3)})

    assert followed.shown() == WITHOUT_PHRASE


async def test_without_configurations(followed: Followed) -> None:
    """No process is started to load plugins."""
    followed.store.put("routes", "1", {"uri": "/"})
    for _ in range(3):
        await asyncio.sleep(0)

    assert followed.check.calls == 0
