# SPDX-License-Identifier: Apache-2.0
"""Mistakes that the test kit and `dev` find while a hook runs."""

import asyncio
import gc
import re
import sys
import warnings
from typing import Any

import pytest

from apisix.runner.call.observing import watching
from apisix.runner.call.observing.watching import CoroutineNeverAwaited, SharedStateWarning
from apisix.runner.plugin.core import PluginBase
from apisix.runner.plugin.plugin import Plugin
from apisix.testing import Client


async def check(request: Any) -> bool:
    """Return False."""
    return False


class ForgetsOwn(Plugin[Any]):
    """Forget to await its own coroutine function."""

    async def on_request(self, request: Any) -> None:
        """Do that."""
        check(request)  # type: ignore[unused-coroutine]


class ForgetsInPlainHook(Plugin[Any]):
    """Forget that a plain hook can't await."""

    def on_request(self, request: Any) -> None:
        """Do that."""
        allowed = check(request)
        if not allowed:
            raise ValueError


class ForgetsVariable(Plugin[Any]):
    """Forget to await an accessor."""

    async def on_request(self, request: Any) -> None:
        """Do that."""
        if not request.avar("consumer_name"):
            raise ValueError

    async def on_response(self, response: Any) -> None:
        """Do that."""
        if not response.aread():
            raise ValueError


class ForgetsInThread(ForgetsInPlainHook):
    """Forgets to await, in a thread."""

    blocking = True


class ForgetsOfRelease02(PluginBase):
    """Forgets to await, with the API of release 0.2."""

    def name(self) -> str:
        """Return the name."""
        return "forgets-of-release-02"

    def config(self, conf: Any) -> Any:
        """Return the configuration."""
        return conf

    def filter(self, conf: Any, request: Any, response: Any) -> None:
        """Do that."""
        check(request)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize("plugin", [ForgetsOwn, ForgetsInPlainHook, ForgetsVariable, ForgetsInThread, ForgetsOfRelease02])
@pytest.mark.parametrize("action", ["error", "ignore", "default"])
def test_a_coroutine_that_is_never_awaited_refuses_the_call(plugin: Any, action: Any) -> None:
    """The error names the line each time, and does not depend on the filters for warnings."""
    with Client() as client, warnings.catch_warnings():
        warnings.simplefilter(action)
        for _ in range(2):
            with pytest.raises(CoroutineNeverAwaited) as raised:
                client.get("/", plugins=[plugin], vars={"consumer_name": "jack"})

    name = "request.avar" if plugin is ForgetsVariable else "check"
    assert re.fullmatch(
        rf"test_watching.py:\d+ in (on_request|filter).*: the coroutine {name} was never awaited, so it did not run. "
        "Write `await` before the call",
        str(raised.value),
    )


def test_a_coroutine_that_does_not_record_its_origin_is_found_by_its_caller() -> None:
    """An example is the coroutine of a compiled function, which is deleted in the line that created it."""
    watch = watching.HookWatch(check)
    line = sys._getframe().f_lineno + 1
    watch.never_awaited(object())
    watch.end()

    with pytest.raises(CoroutineNeverAwaited) as raised:
        watch.check()
    place = f"test_watching.py:{line} in test_a_coroutine_that_does_not_record_its_origin_is_found_by_its_caller"
    assert place in str(raised.value)


class ForgetsTwice(Plugin[Any]):
    """Forget the same `await` in a loop."""

    async def on_request(self, request: Any) -> None:
        """Do that."""
        for _ in range(2):
            check(request)  # type: ignore[unused-coroutine]


def test_a_line_is_reported_once() -> None:
    """This applies even if the hook runs the line repeatedly."""
    with Client() as client, pytest.raises(CoroutineNeverAwaited) as raised:
        client.get("/", plugins=[ForgetsTwice])
    assert str(raised.value).count("never awaited") == 1


def test_in_the_response_phase() -> None:
    """Accessors of a response are watched too, and the client does not get the upstream's body."""
    with Client() as client:
        with pytest.raises(CoroutineNeverAwaited, match=r"the coroutine response\.aread was never awaited"):
            client.respond(200, {}, b"secret", plugins=[ForgetsVariable])
        refused = client.respond(200, {}, b"secret", plugins=[ForgetsVariable], raise_errors=False).response
        assert refused.status == 503


class Awaits(Plugin[Any]):
    """Await coroutines directly and in tasks, and close one that is not needed."""

    async def on_request(self, request: Any) -> None:
        """Do that."""
        await request.avar("consumer_name")
        await asyncio.gather(check(request), asyncio.create_task(request.aread()))
        check(request).close()


def test_coroutines_that_are_awaited_or_closed_are_not_reported() -> None:
    """A coroutine may be awaited directly or in a task."""
    with Client() as client:
        assert not client.get("/", plugins=[Awaits]).stopped


class Collects(Plugin[Any]):
    """Run the garbage collector, which deletes a coroutine of another call."""

    def on_request(self, request: Any) -> None:
        """Do that."""
        gc.collect()


@pytest.mark.filterwarnings("ignore:coroutine 'check' was never awaited:RuntimeWarning")
def test_a_coroutine_of_an_earlier_call_is_not_reported() -> None:
    """A coroutine that is deleted by the garbage collector may belong to any earlier call."""
    gc.disable()  # otherwise it might be collected before the hook runs
    try:
        cycle: list[Any] = [check(None)]
        cycle.append(cycle)
        del cycle
        with Client() as client:
            assert not client.get("/", plugins=[Collects]).stopped
    finally:
        gc.enable()


class Remembers(Plugin[Any]):
    """Keep the user of a call on the instance."""

    async def setup(self) -> None:
        """Assign an attribute for all calls."""
        self.ready = True

    def on_request(self, request: Any) -> None:
        """Assign an attribute for this call only, which is the mistake."""
        self.user = request.headers.get("x-user")


class Counts(Plugin[Any]):
    """Count the calls."""

    shared_state = ("hits",)

    def __init__(self) -> None:
        self.hits = 0

    def on_request(self, request: Any) -> None:
        """Count."""
        self.hits += 1


def test_assigning_an_attribute_of_self_in_a_hook_causes_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning names the line. There is no warning for assignments in `__init__` and `setup`."""
    monkeypatch.setattr(watching, "_warned", set())
    with Client() as client, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            client.get("/", plugins=[Remembers])

    assert [(warning.category, warning.filename) for warning in seen] == [(SharedStateWarning, __file__)]
    assert str(seen[0].message).startswith("Remembers assigns self.user while a call runs.")
    assert str(seen[0].message).endswith('set shared_state = ("user",) on the class')


def test_shared_state_causes_no_warning() -> None:
    """An attribute that the class names in `shared_state` may be assigned."""
    with Client() as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        client.get("/", plugins=[Counts])
