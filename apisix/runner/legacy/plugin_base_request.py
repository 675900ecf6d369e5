# SPDX-License-Identifier: Apache-2.0
"""
The request that the `filter` of a `PluginBase` gets. What the plugin sets on it becomes edits of the runner's own `Request`.

Source: design, 3b, without the defects of release 0.2.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from apisix.runner.http.request import Request
from apisix.runner.legacy.edits import (
    GivenDict,
    given_body,
    given_mapping,
    given_number,
    given_text,
    given_value,
    last_value,
    set_entry,
    warn_once,
)
from apisix.runner.legacy.values import full_address, received_text

plugin_base_request_logger = logging.getLogger("apisix.runner.legacy.plugin_base_request")

_T = TypeVar("_T")
_RELEASED: Final[Any] = None  # replaces an object's request after `filter`
_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
"""The methods that `set_method` accepted in release 0.2."""


class FormatLog:
    """`request.r.log` of release 0.2, which formats messages with `str.format`."""

    def debug(self, message: str, *objs: object) -> None:
        """Log at level debug."""
        plugin_base_request_logger.debug("%s", message.format(*objs))

    def info(self, message: str, *objs: object) -> None:
        """Log at level info."""
        plugin_base_request_logger.info("%s", message.format(*objs))

    def warn(self, message: str, *objs: object) -> None:
        """Log at level warning."""
        plugin_base_request_logger.warning("%s", message.format(*objs))

    def error(self, message: str, *objs: object) -> None:
        """Log at level error."""
        plugin_base_request_logger.error("%s", message.format(*objs))


class RpcRequest:
    """`request.r` of release 0.2. It has only the log, because plugins can't use the connection any more."""

    log: Final = FormatLog()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"request.r no longer has {name!r}, only log; get_body() and get_var() fetch data from the gateway")


_RPC_REQUEST: Final = RpcRequest()


class PluginBaseRequest:
    """
    The request that the `filter` of a `PluginBase` gets. It has a `get_` and a `set_` method for each part of the request.

    As in release 0.2, an empty value (None, "", 0, {}) changes nothing and the setter returns False. Otherwise the setter returns True. A
    value of another type raises TypeError, and the call fails. To delete a header or an argument, delete it from the dict that
    `get_headers` or `get_args` returns. The protocol can't change the method, the address, the id, the token or a variable. If a plugin
    sets one of them, only the getter returns the new value, and a warning is logged once.

    Args:
        request: the request to edit.
        configs: the names and values of the route's plugins.
        plugin: the plugin's name, for warnings.
    """

    # A plugin may set its own attributes, which later plugins of the chain can read.
    __slots__ = ("__dict__", "_args", "_configs", "_headers", "_local", "_plugin", "_request")

    def __init__(self, request: Request, configs: Mapping[str, str] | None = None, plugin: str = "") -> None:
        self._request = request
        self._configs: Mapping[str, Any] = configs or {}
        self._plugin = plugin
        # These are created when they are first used.
        self._headers: GivenDict | None = None
        self._args: GivenDict | None = None
        self._local: dict[str, Any] | None = None

    def apply(self) -> None:
        """
        Apply the changes of the dicts that the plugin got. Must be called after `filter`.

        Raises: TypeError, ValueError: a header or an argument can't be sent.
        """
        if self._headers is not None:
            self._headers.read_back()
        if self._args is not None:
            self._args.read_back()

    # Setters that edit the request.

    def get_header(self, name: str) -> str | None:
        """Return the value of a header, or None. If the header repeats, return its last value."""
        given = self._headers
        return last_value(self._request.headers, name) if given is None else given.shown.get(name)

    def set_header(self, name: str, value: str | bytes | None) -> bool:
        """Set a header. Raises: TypeError, ValueError: it can't be sent."""
        return set_entry(self._request.headers, self._headers, name, value, self._plugin)

    def get_headers(self) -> dict[str, Any]:
        """Return all headers as a dict. Changes of the dict are edits."""
        if self._headers is None:
            self._headers = GivenDict(self._request.headers, True, self._plugin)
        return self._headers.shown

    def set_headers(self, headers: Mapping[str, str | None] | None) -> bool:
        """
        Set several headers. A value of None deletes a header. `get_headers` then returns only these, but the upstream gets all others too.

        Raises: TypeError: they are not a dict of text.
        """
        headers = given_mapping("headers", headers)
        if not headers:
            return False
        if self._headers is None:
            self._headers = GivenDict(self._request.headers, True, self._plugin)
        self._headers.replace(headers)
        return True

    def get_arg(self, name: str) -> str | None:
        """Return the value of an argument, or None. If the argument repeats, return its last value."""
        given = self._args
        return last_value(self._request.args, name) if given is None else given.shown.get(name)

    def set_arg(self, name: str, value: str | bytes | None) -> bool:
        """Set an argument. Raises: TypeError, ValueError: it can't be sent."""
        return set_entry(self._request.args, self._args, name, value, self._plugin)

    def get_args(self) -> dict[str, Any]:
        """Return all arguments as a dict. Changes of the dict are edits."""
        if self._args is None:
            self._args = GivenDict(self._request.args, False, self._plugin)
        return self._args.shown

    def set_args(self, args: Mapping[str, str | None] | None) -> bool:
        """Set several arguments. Same as `set_headers`, but for arguments. Raises: TypeError: they are not a dict of text."""
        args = given_mapping("args", args)
        if not args:
            return False
        if self._args is None:
            self._args = GivenDict(self._request.args, False, self._plugin)
        self._args.replace(args)
        return True

    def get_uri(self) -> str:
        """Return the path, without the query."""
        return self._request.path

    def set_uri(self, uri: str | None) -> bool:
        """Set the path. Returns: True if it begins with "/". Raises: TypeError: it is not text."""
        uri = given_text("uri", uri)
        if not uri.startswith("/"):
            return False
        self._request.path = uri
        return True

    def get_body(self) -> str:
        """Return the body. It is fetched from the gateway on first use. `encode()` and `encode("latin-1")` return its bytes."""
        return received_text(self._request.body.decode("utf-8", "surrogateescape"))

    def set_body(self, body: str | bytes | None) -> bool:
        """Set the body that the upstream gets. Raises: TypeError: it is neither str nor bytes. UnsupportedEdit: it is too long."""
        content = given_body(body)
        if not content:
            return False
        self._request.body = content
        return True

    def checked(self) -> bool:
        """Return True if the request has a path, a header or an argument."""
        return bool(self._request.path or self._request.headers or self._request.args)

    @property
    def r(self) -> RpcRequest:
        """An object with the attribute `log`, whose methods `debug`, `info`, `warn` and `error` format messages by `str.format`."""
        return _RPC_REQUEST

    @property  # type: ignore[misc]  # mypy does not let the class of an object be another
    def __class__(self) -> type:
        """The class `Request`, because plugins are annotated with it and may use `isinstance`."""
        return Request

    # Setters that only keep a value for the getter.

    def get_var(self, name: str) -> str:
        """Return a variable of nginx or APISIX, fetched from the gateway; "" if it is not set."""
        variables: dict[str, str] = self._kept("var", {})
        return variables[name] if name in variables else received_text(self._request.var(name) or "")

    def set_var(self, name: str, value: str | None) -> bool:
        """Keep a variable for `get_var`. Raises: TypeError: name or value is not text."""
        text = given_text("a variable's name", name) and given_value("variable ", name, value)
        return bool(text) and self._keep_and_warn("var", {**self._kept("var", {}), name: text})

    def get_id(self) -> int:
        """Return the id that the gateway gave the call."""
        return self._kept("id", self._request.id)

    def set_id(self, id: int | None) -> bool:
        """Keep an id for `get_id`. Raises: TypeError: it is not an int."""
        return bool(given_number("id", id)) and self._keep_and_warn("id", id)

    def get_conf_token(self) -> int:
        """Return the token of the configuration."""
        return self._kept("conf_token", self._request.conf_token)

    def set_conf_token(self, conf_token: int | None) -> bool:
        """Keep a token for `get_conf_token`. Raises: TypeError: it is not an int."""
        return bool(given_number("conf_token", conf_token)) and self._keep_and_warn("conf_token", conf_token)

    def get_method(self) -> str:
        """Return the method, in capitals."""
        return self._kept("method", self._request.method)

    def set_method(self, method: str | None) -> bool:
        """Keep a method for `get_method`. Returns: True if it is one of seven common methods. Raises: TypeError: it is not text."""
        text = given_text("method", method)
        return text.upper() in _METHODS and self._keep_and_warn("method", text)

    def get_remote_addr(self) -> str:
        """Return the client's address. IPv6 is written in full: 0000:0000:0000:0000:0000:0000:0000:0001."""
        return self._kept("remote_addr", full_address(self._request.remote_addr))

    def set_remote_addr(self, remote_addr: str | None) -> bool:
        """Keep an address for `get_remote_addr`. Raises: TypeError: it is not text."""
        text = given_text("remote_addr", remote_addr)
        return bool(text) and self._keep_and_warn("remote_addr", text)

    def get_config(self, name: str) -> Any:
        """Return the value of one of the route's plugins, or None."""
        configs: Mapping[str, Any] = self._kept("configs", self._configs)
        return configs.get(name)

    def set_config(self, name: str, value: Any) -> bool:
        """Keep a value of any type for `get_config`. Raises: TypeError: the name is not text."""
        if not given_text("name", name):
            return False
        self.get_configs()[name] = value
        return True

    def get_configs(self) -> dict[str, Any]:
        """Return the names and values of the route's plugins."""
        # A copy, because all calls of the route share the original.
        configs: dict[str, Any] | None = self._kept("configs", None)
        if configs is None:
            configs = dict(self._configs)
            self._keep("configs", configs)
        return configs

    def set_configs(self, configs: Mapping[str, Any] | None) -> bool:
        """Keep values for `get_configs`. Raises: TypeError: they are not a dict."""
        configs = given_mapping("configs", configs)
        if not configs:
            return False
        self._keep("configs", dict(configs))
        return True

    def follow(self, earlier: "PluginBaseRequest") -> None:
        """Copy the values that an earlier plugin of the chain kept."""
        self._local = None if earlier._local is None else earlier._local.copy()
        vars(self).update(vars(earlier))

    def release(self) -> None:
        """Remove the reference to the request, which has a reference to this object."""
        self._request = _RELEASED

    def _kept(self, name: str, received: _T) -> _T:
        kept: _T | None = None if self._local is None else self._local.get(name)
        return received if kept is None else kept

    def _keep(self, name: str, value: Any) -> None:
        if self._local is None:
            self._local = {}
        self._local[name] = value

    def _keep_and_warn(self, name: str, value: Any) -> bool:
        self._keep(name, value)
        warn_once(
            self._plugin, f"called set_{name}(), but the protocol can't change a request's {name}: only get_{name}() returns the new value"
        )
        return True


def plugin_base_request(request: Request, configs: Mapping[str, str], plugin: str) -> PluginBaseRequest:
    """Return a PluginBaseRequest. This is faster than the constructor."""
    seen = PluginBaseRequest.__new__(PluginBaseRequest)
    seen._request = request
    seen._configs = configs
    seen._plugin = plugin
    seen._headers = seen._args = None
    seen._local = None
    return seen


def shared_request(request: Request, configs: Mapping[str, str], plugin: str) -> PluginBaseRequest:
    """
    Return the request for the next plugin of a chain with several `PluginBase` plugins. Release 0.2 passed one request to all of them.

    `release` must be called on it after `filter`.
    """
    seen = plugin_base_request(request, configs, plugin)
    adapters = request._adapters or {}
    if "PluginBase" in adapters:
        seen.follow(adapters["PluginBase"])
    request._adapters = {**adapters, "PluginBase": seen}
    return seen
