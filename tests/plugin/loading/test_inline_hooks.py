# SPDX-License-Identifier: Apache-2.0
"""Which hooks run inline, and the reason why others may suspend their call."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apisix import Reply, Request
from apisix.runner.legacy.apis import PLUGIN_BASE_ATTRIBUTES
from apisix.runner.plugin.loading.inline_hooks import may_suspend

KEPT: list[Any] = []


def use(request: Request) -> None:
    """Use a request."""


class Inline:
    """Hooks that cannot suspend their call."""

    limit = 3

    def empty(self, request: Request) -> None:
        """Do nothing."""

    def edits(self, request: Request) -> None:
        """Read and edit the request."""
        request.headers["x-copy"] = request.headers.get("user-agent", "")
        del request.headers["cookie"]
        if request.method == "GET" and len(request.path) > self.limit:
            request.path = request.path[: self.limit]
        for name, value in request.args.items():
            use_value(name, value)

    def stops(self, request: Request) -> Reply | None:
        """Reply to the client."""
        key = request.headers.get("x-api-key")
        return None if key in ("alpha", "beta") else Reply(401, json={"path": request.path})

    def assigns_a_body(self, request: Request) -> None:
        """Assign a body, which does not read the received one."""
        request.body = b"new"


class Suspending:
    """Hooks that may suspend their call, each with the expected reason. The number after + counts lines from the function's."""

    def reads(self, request: Request) -> None:
        """request.read() may wait for the gateway (FILE:+2)"""
        request.read()

    def body(self, request: Request) -> None:
        """request.body may wait for the gateway (FILE:+2)"""
        KEPT.append(request.body)

    def variable(self, request: Request) -> None:
        """request.var() may wait for the gateway (FILE:+2)"""
        request.headers["x-id"] = request.var("request_id") or ""

    def use(self, request: Request) -> None:
        """it stores request or passes it on (FILE:+2)"""
        use(request)

    def renames(self, request: Request) -> None:
        """it stores request or passes it on (FILE:+2)"""
        other = request
        other.read()

    def keeps(self, request: Request) -> None:
        """request (FILE:+2)"""
        self.request = request

    def chooses(self, request: Request) -> None:
        """it stores request or passes it on (FILE:+2)"""
        (request if request.path else use).read()  # type: ignore[union-attr]

    def closure(self, request: Request) -> Callable[[], bytes]:
        """a function inside it uses request (FILE:+0)"""
        return lambda: request.read()

    def collects(self, request: Request) -> list[str]:
        """request"""
        return [request.text() for _ in range(2)]

    def by_name(self, request: Request) -> object:
        """it uses locals, which gives access to request (FILE:+0)"""
        return locals()["request"].read()

    def gets_attribute(self, request: Request) -> object:
        """it stores request or passes it on (FILE:+2)"""
        return getattr(request, "read")()  # noqa: B009

    def assigns(self, request: Request) -> None:
        """request.extra is assigned (FILE:+2)"""
        request.extra = 1  # type: ignore[attr-defined]

    def stores_in_context(self, request: Request) -> None:
        """request (FILE:+2)"""
        request.context["request"] = request

    def context_manager(self, request: Request) -> None:
        """it stores request or passes it on (FILE:+2)"""
        with request as other:  # type: ignore[attr-defined]
            other.read()

    def matches(self, request: Request) -> object:
        """it stores request or passes it on (FILE:+2)"""
        match request:
            case Request(body=body):
                return body

    def any_arguments(self, *arguments: Request) -> None:
        """its arguments do not name the request or response (FILE:+0)"""
        arguments[0].read()

    async def coroutine(self, request: Request) -> None:
        """it is a coroutine function, which runs as a task"""

    def generator(self, request: Request) -> Any:
        """it is a coroutine function, which runs as a task"""
        yield request.path


def use_value(name: str, value: str) -> None:
    """Use a name and a value."""


def methods(cls: type) -> list[str]:
    """Return the names of the methods of a class."""
    return [name for name, member in vars(cls).items() if callable(member) and not name.startswith("__")]


@pytest.mark.parametrize("name", methods(Inline))
def test_a_hook_that_cannot_suspend(name: str) -> None:
    """A hook that only reads and assigns attributes that never wait runs inline, in each version of Python."""
    assert may_suspend(getattr(Inline(), name)) is None


@pytest.mark.parametrize("name", methods(Suspending))
def test_a_hook_that_may_suspend(name: str) -> None:
    """The reason names the use of the request and its line."""
    hook = getattr(Suspending(), name)
    reason = may_suspend(hook)
    expected, _, offset = hook.__doc__.removesuffix(")").partition(":+")
    assert reason is not None
    if not offset:
        assert expected in reason
        return
    subject, _, _ = expected.partition(" (FILE")
    assert subject in reason
    assert reason.endswith(f" ({Path(__file__).name}:{hook.__code__.co_firstlineno + int(offset)})")


def test_objects_that_are_not_functions() -> None:
    """Callable objects and functions behind a decorator can't be analyzed."""
    assert may_suspend(functools.partial(Inline.empty, Inline())) == "it is not a Python function but a partial, which can't be analyzed"
    assert may_suspend(functools.wraps(Inline.empty)(lambda *given: Inline().empty(*given))) is not None
    assert may_suspend(print) is not None


def test_plugin_base() -> None:
    """In a `PluginBase`, `get_var` and `get_body` wait for the gateway, and nothing else does."""

    class Plugin:
        def edits(self, conf: Any, request: Any, response: Any) -> None:
            request.set_header("x-a", request.get_arg("a"))
            response.set_body("x")

        def waits(self, conf: Any, request: Any, response: Any) -> None:
            request.get_var("request_id")

    assert may_suspend(Plugin().edits, 2, PLUGIN_BASE_ATTRIBUTES) is None
    reason = may_suspend(Plugin().waits, 2, PLUGIN_BASE_ATTRIBUTES)
    assert reason is not None
    assert reason.startswith("request.get_var() may wait for the gateway (test_inline_hooks.py:")
