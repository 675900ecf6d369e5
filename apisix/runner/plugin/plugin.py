# SPDX-License-Identifier: Apache-2.0
"""`Plugin`, the base class of new plugins."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

import msgspec

from apisix.runner.plugin.naming import kebab_case

if TYPE_CHECKING:
    # `Plugin` without a parameter means `Plugin[Any]` to type checkers. `typing.TypeVar` has no defaults before 3.13.
    from collections.abc import Awaitable

    from typing_extensions import TypeVar

    from apisix.runner.http.reply import Reply
    from apisix.runner.http.request import Request
    from apisix.runner.http.response import Response
    from apisix.runner.state.store import Store

    C = TypeVar("C", default=Any)
else:
    from typing import TypeVar

    C = TypeVar("C")

OnError = Literal["refuse", "pass", "degrade"]
RunsIn = Literal["process"]


class Plugin(Generic[C]):
    """
    The base class of plugins.

    Derive a class from it and define at least one hook: `on_request`, `on_response`, or both. `setup` and `close` are optional.

    `C` is the type of the configuration: a dataclass, a TypedDict, a `msgspec.Struct`, a dict, or a pydantic model. If `C` is omitted,
    `config` is the parsed JSON, or the string if it is not JSON. There is one instance for each route configuration and worker.
    `__init__` takes no arguments, and can use `self.config`.

    >>> class SayHello(Plugin):
    ...     def on_request(self, request):
    ...         request.headers["x-hello"] = self.config["name"]
    >>> SayHello.name
    'say-hello'
    """

    name: ClassVar[str]
    """The name of the plugin in routes. The default is the class name in kebab-case: `key-auth` for `KeyAuth`."""

    needs: ClassVar[tuple[str, ...]] = ()
    """What the runner fetches from the gateway before the hook runs: `"body"`, and names of variables."""

    inline: ClassVar[bool | None] = None
    """
    Whether a plain hook runs inline. An inline hook is faster, but it cannot wait for the gateway.

    None: the runner runs the hook inline if its code shows that it never waits for the gateway. True: the hook runs inline even if its
    code does not show that. If it then has to wait, as `request.read()` does, the call fails with an error that names the plugin. False:
    the hook never runs inline. `apisix-runner plugins` prints which hooks run inline, and why others do not.
    """

    blocking: ClassVar[bool | None] = None
    """
    True: hooks run in threads. False: hooks never run in threads. None: the runner moves the plugin to threads if it blocks the event
    loop.
    """

    runs_in: ClassVar[RunsIn | None] = None
    """
    `"process"`: hooks run in a pool of processes, for work that computes for long, such as images, cryptography or models. There, the
    instance is created, set up and closed in each process of the pool. None: hooks run in the worker.
    """

    on_error: ClassVar[OnError | None] = None
    """What happens if a hook fails: `"refuse"`, `"pass"` or `"degrade"`. None: the setting `plugins.on_error` decides."""

    shared_state: ClassVar[tuple[str, ...]] = ()
    """
    Attributes of `self` that hooks assign intentionally, such as a counter. Assigning other attributes causes warnings, because all
    calls of a route share the instance.
    """

    eager: ClassVar[bool] = False
    """
    True: the instance is created when the gateway sends the route configuration. False: it is created before the first call. If a class
    does not set it, it is True if the class defines `background`, and False otherwise.
    """

    once: ClassVar[bool] = False
    """
    True: of all workers that share the store, one runs `background` for a configuration. Another one continues if that one exits. False:
    each worker runs it.
    """

    config: C
    """The validated configuration."""

    @cached_property
    def store(self) -> Store:
        """The store with the name of this plugin, which all workers share. Its keys are separate from those of other plugins."""
        from apisix.runner.state.store import Store  # late, because few plugins use it

        return Store(self.name)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set `name`. It is never inherited, because two plugins would have the same name."""
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = kebab_case(cls.__name__)

    def on_request(self, request: Request) -> Reply | Awaitable[Reply | None] | None:
        """
        Called for each request of a route that lists the plugin under ext-plugin-pre-req or ext-plugin-post-req. Can be `def` or `async
        def`.

        Args:
            request: the request. Edit it in place.
        Returns: None to continue with the next plugin, or a Reply to end the chain and reply to the client.
        """
        return None

    def on_response(self, response: Response) -> Reply | Awaitable[Reply | None] | None:
        """
        Called for each response of a route that lists the plugin under ext-plugin-post-resp. Can be `def` or `async def`.

        Args:
            response: the upstream's response. Edit it in place.
        Returns: None to continue with the next plugin, or a Reply that replaces the response.
        """
        return None

    async def setup(self) -> None:
        """Called once for each instance, before its first call. Open connection pools and clients here."""

    async def background(self) -> None:
        """
        Called once for each instance, before its first call and after `setup`, and runs as a task beside the calls. In the worker that
        receives the route configuration, it is called then, unless the class sets `eager = False`. It is cancelled before `close`.

        If it raises an exception, that is logged, and it is called again after a delay. If it returns, it is not called again.
        """

    async def close(self) -> None:
        """Called once for each instance that was set up, when it is no longer used."""

    @classmethod
    def configured(cls, value: object = None, /, **fields: object) -> tuple[str, str]:
        """
        Return an entry for the `conf` of a route: the name of the plugin and its configuration.

        Args:
            value: the whole configuration. A str is not changed, and everything else becomes JSON.
            fields: the fields of the configuration, instead of `value`.
        Raises:
            TypeError: both `value` and fields are given.

        >>> class KeyAuth(Plugin): ...
        >>> KeyAuth.configured(keys=["alpha"])
        ('key-auth', '{"keys":["alpha"]}')
        """
        if value is not None and fields:
            raise TypeError(f"{cls.__name__}.configured() takes the whole configuration or its fields, not both")
        if isinstance(value, str):
            return cls.name, value
        return cls.name, msgspec.json.encode(fields if value is None else value, enc_hook=_encode_model).decode()


def defines(cls: type, hook: str) -> bool:
    """Return True if a class defines or inherits a method of this name other than the one that `Plugin` declares."""
    function = getattr(cls, hook, None)
    return function is not None and function is not getattr(Plugin, hook, None)


def _encode_model(value: object) -> object:
    """Return the JSON of a pydantic model in a configuration. It is recognized by its method, since the runner does not import pydantic."""
    if hasattr(value, "model_dump_json"):
        return msgspec.Raw(value.model_dump_json().encode())
    raise TypeError(f"{type(value).__name__} can't be converted to JSON")
