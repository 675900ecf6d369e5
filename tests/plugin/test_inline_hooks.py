# SPDX-License-Identifier: Apache-2.0
"""What is taken for a hook that asks nothing: nothing that might ask."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from apisix import Reply, Request
from apisix.runner.plugin.inline_hooks import CORE_ATTRIBUTES, asks_nothing

KEPT: list[Any] = []


def hands_on(request: Request) -> None:
    """Take a request, to do with it whatever one likes."""


class Straight:
    """Hooks that ask nothing."""

    limit = 3

    def empty(self, request: Request) -> None:
        """Do nothing."""

    def edits(self, request: Request) -> None:
        """Look at what came and edit it."""
        request.headers["x-copy"] = request.headers.get("user-agent", "")
        del request.headers["cookie"]
        if request.method == "GET" and len(request.path) > self.limit:
            request.path = request.path[: self.limit]
        for name, value in request.args.items():
            hands_on_name(name, value)

    def stops(self, request: Request) -> Reply | None:
        """Answer the client."""
        key = request.headers.get("x-api-key")
        return None if key in ("alpha", "beta") else Reply(401, json={"path": request.path})

    def assigns_a_body(self, request: Request) -> None:
        """Assign a body, which needs no look at the one that came."""
        request.body = b"new"


class Asking:
    """Hooks that ask, or might."""

    def reads(self, request: Request) -> None:
        """Read the body."""
        request.read()

    def body(self, request: Request) -> None:
        """Read the body by its property."""
        KEPT.append(request.body)

    def variable(self, request: Request) -> None:
        """Ask for a variable."""
        request.headers["x-id"] = request.var("request_id") or ""

    def hands_on(self, request: Request) -> None:
        """Give the request to another function."""
        hands_on(request)

    def renames(self, request: Request) -> None:
        """Look at the request under another name."""
        other = request
        other.read()

    def keeps(self, request: Request) -> None:
        """Keep the request."""
        self.request = request

    def chooses(self, request: Request) -> None:
        """Use it as one of two."""
        (request if request.path else hands_on).read()  # type: ignore[union-attr]

    def closure(self, request: Request) -> Callable[[], bytes]:
        """Let a function inside of this one have it."""
        return lambda: request.read()

    def collects(self, request: Request) -> list[str]:
        """Use it in a comprehension that calls."""
        return [request.text() for _ in range(2)]

    def by_name(self, request: Request) -> object:
        """Find it among the local variables."""
        return locals()["request"].read()

    def gets_attribute(self, request: Request) -> object:
        """Choose the attribute at run time."""
        return getattr(request, "read")()  # noqa: B009

    def stores_in_context(self, request: Request) -> None:
        """Leave it where a later plugin finds it."""
        request.context["request"] = request

    def context_manager(self, request: Request) -> None:
        """Read it as something else."""
        with request as other:  # type: ignore[attr-defined]
            other.read()

    def matches(self, request: Request) -> object:
        """Take it apart."""
        match request:
            case Request(body=body):
                return body

    def any_arguments(self, *arguments: Request) -> None:
        """Have it among others."""
        arguments[0].read()

    async def coroutine(self, request: Request) -> None:
        """Be a coroutine."""

    def generator(self, request: Request) -> Any:
        """Be a generator."""
        yield request.path


def hands_on_name(name: str, value: str) -> None:
    """Take what is no request."""


def methods(cls: type) -> list[str]:
    """Return the names of the methods of a class."""
    return [name for name, member in vars(cls).items() if callable(member) and not name.startswith("__")]


@pytest.mark.parametrize("name", methods(Straight))
def test_straight(name: str) -> None:
    """Looking up and assigning attributes that do not ask is recognised, on each version of Python."""
    assert asks_nothing(getattr(Straight(), name))


@pytest.mark.parametrize("name", methods(Asking))
def test_asking(name: str) -> None:
    """Whatever reads, keeps or hands on the request might ask."""
    assert not asks_nothing(getattr(Asking(), name))


def test_what_is_no_function() -> None:
    """Of objects that can be called, and of functions behind a decorator, nothing is known."""
    assert not asks_nothing(functools.partial(Straight.empty, Straight()))
    assert not asks_nothing(functools.wraps(Straight.empty)(lambda *given: Straight().empty(*given)))
    assert not asks_nothing(print)


def test_release_0_2() -> None:
    """In a plugin of release 0.2, `get_var` and `get_body` ask, and nothing else does."""

    class Plugin:
        def edits(self, conf: Any, request: Any, response: Any) -> None:
            request.set_header("x-a", request.get_arg("a"))
            response.set_body("x")

        def asks(self, conf: Any, request: Any, response: Any) -> None:
            request.get_var("request_id")

    assert asks_nothing(Plugin().edits, 2, CORE_ATTRIBUTES)
    assert not asks_nothing(Plugin().asks, 2, CORE_ATTRIBUTES)
