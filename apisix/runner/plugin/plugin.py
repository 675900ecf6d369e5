# SPDX-License-Identifier: Apache-2.0
"""`Plugin`, the base of new plugins."""

from __future__ import annotations

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

    C = TypeVar("C", default=Any)
else:
    from typing import TypeVar

    C = TypeVar("C")

OnError = Literal["refuse", "pass", "degrade"]


class Plugin(Generic[C]):
    """
    Derive a plugin from this class, and give it at least one hook.

    The hooks are `on_request(self, request)` and `on_response(self, response)`, each `def` or `async def`. Returning
    or raising a `Reply` ends the chain of plugins. `async def setup(self)` and `async def close(self)` are optional.

    There is one instance per configuration (so per route) and worker. `C` is the type of the configuration: a
    dataclass, a TypedDict, a `msgspec.Struct`, a dict, or a pydantic model. `config` holds it, validated, in `__init__` already,
    which takes no arguments. Without `C`, `config` is the parsed JSON, or the string where it is none.

    >>> class SayHello(Plugin):
    ...     def on_request(self, request):
    ...         request.headers["x-hello"] = self.config["name"]
    >>> SayHello.name
    'say-hello'
    """

    name: ClassVar[str]
    """The name that routes use. By default the class's in kebab-case: `KeyAuth` is `key-auth`."""

    needs: ClassVar[tuple[str, ...]] = ()
    """What to fetch from the gateway before the hook runs: `"body"`, or the names of variables."""

    blocking: ClassVar[bool | None] = None
    """True: calls run in threads from the start. False: never. None: the runner watches, and decides."""

    on_error: ClassVar[OnError | None] = None
    """What a failure does: `"refuse"` the call, let it `"pass"` without this plugin's edits, or, for responses,
    `"degrade"`, which leaves the decision to the gateway. None: as the settings say."""

    shared_state: ClassVar[tuple[str, ...]] = ()
    """Attributes of `self` that hooks assign on purpose, such as a counter: all calls of a route share one instance. `dev` and
    tests warn of others, and the command `check` points at those that it sees."""

    eager: ClassVar[bool] = False
    """True: the instance is made and set up as soon as the gateway sends the configuration. False: before the first call."""

    config: C
    """The configuration of the route, validated."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name the class. A name is never inherited: two plugins would bear it."""
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = kebab_case(cls.__name__)

    def on_request(self, request: Request) -> Reply | Awaitable[Reply | None] | None:
        """
        Called for each request of a route that names the plugin under ext-plugin-pre-req or ext-plugin-post-req. `def` or `async def`.

        Only declared here: a route can't name a plugin for a phase whose hook it does not define.

        Args: request: to be edited in place.
        Returns: None to go on, or a Reply, which ends the chain and answers the client.
        """
        return None

    def on_response(self, response: Response) -> Reply | Awaitable[Reply | None] | None:
        """
        Called for each response of a route that names the plugin under ext-plugin-post-resp. `def` or `async def`.

        Only declared here, as `on_request`.

        Args: response: to be edited in place.
        Returns: None to go on, or a Reply, which takes the place of the response.
        """
        return None

    async def setup(self) -> None:
        """Called once for each instance, before its first call, which waits for it: a place to open pools and clients."""

    async def close(self) -> None:
        """Called once for each instance that was set up, when it is no longer used."""

    @classmethod
    def configured(cls, value: object = None, /, **fields: object) -> tuple[str, str]:
        """
        Write a route's entry for this plugin, as its `conf` holds it.

        Args:
            value: the whole configuration: a str as it is, anything else as JSON. Not together with fields.
            fields: the configuration's fields.
        Returns: the pair of name and value.

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
    """Return whether a class has a method of this name that `Plugin` does not just declare."""
    function = getattr(cls, hook, None)
    return function is not None and function is not getattr(Plugin, hook, None)


def _encode_model(value: object) -> object:
    """Let pydantic models stand in a configuration: they bring their own JSON."""
    if hasattr(value, "model_dump_json"):
        return msgspec.Raw(value.model_dump_json().encode())
    raise TypeError(f"{type(value).__name__} can't be written as JSON")
