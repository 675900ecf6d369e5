# SPDX-License-Identifier: Apache-2.0
"""The request and response of release 0.2 (`PluginBase`), over the new Request. Source: design, 3b, with its faults mended."""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from apisix.runner.http.dicts import GivenDict, HeaderDict, header_dict, last_value, set_entries, set_entry, with_values
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_warned: set[str] = set()
_RELEASED: Any = None  # what an object has in the place of its request after `filter`


class PluginBaseRequest:
    """
    The request that a 0.2 plugin gets: a `get_` and a `set_` for everything. Setters return whether they took the value.

    None deletes. What the protocol can't carry (another method, address, id, token or variable, an empty body) is kept for the
    getter, with one warning in the log. A body is a str decoded with surrogateescape, so binary ones survive.

    Args:
        request: what is edited.
        configs: the route's plugins and their values.
    """

    # A plugin may set attributes of its own, for those that follow in the chain.
    __slots__ = ("__dict__", "_args", "_configs", "_headers", "_local", "_request")

    def __init__(self, request: Request, configs: Mapping[str, str] | None = None) -> None:
        self._request = request
        self._configs: Mapping[str, Any] = configs or {}
        # Made when first touched.
        self._headers: GivenDict | None = None
        self._args: GivenDict | None = None
        self._local: dict[str, Any] | None = None

    def apply(self) -> None:
        """
        Read the dicts that the plugin was given back into edits. Must be called after `filter`.

        Raises: TypeError, ValueError: a header or an argument can't be sent.
        """
        if self._headers is not None:
            self._headers.read_back()
        if self._args is not None:
            self._args.read_back()

    # What becomes an edit.

    def get_header(self, name: str) -> str | None:
        """Return a header's value, the last one where it repeats, or None."""
        given = self._headers
        return last_value(self._request.headers, name) if given is None else given.shown.get(name)

    def set_header(self, name: str, value: str | None) -> bool:
        """Set a header. None deletes it."""
        return set_entry(self._request.headers, self._headers, name, value)

    def get_headers(self) -> dict[str, Any]:
        """Return all headers as a dict, whose changes count."""
        if self._headers is None:
            self._headers = GivenDict(self._request.headers, True)
        return self._headers.shown

    def set_headers(self, headers: Mapping[str, str | None] | None) -> bool:
        """Set several headers, the others stay. None deletes all."""
        return set_entries(self._request.headers, self._headers, headers)

    def get_arg(self, name: str) -> str | None:
        """Return an argument's value, the last one where it repeats, or None."""
        given = self._args
        return last_value(self._request.args, name) if given is None else given.shown.get(name)

    def set_arg(self, name: str, value: str | None) -> bool:
        """Set an argument. None deletes it."""
        return set_entry(self._request.args, self._args, name, value)

    def get_args(self) -> dict[str, Any]:
        """Return all arguments as a dict, whose changes count."""
        if self._args is None:
            self._args = GivenDict(self._request.args, False)
        return self._args.shown

    def set_args(self, args: Mapping[str, str | None] | None) -> bool:
        """Set several arguments, the others stay. None deletes all."""
        return set_entries(self._request.args, self._args, args)

    def get_uri(self) -> str:
        """Return the path, without the query."""
        return self._request.path

    def set_uri(self, uri: str | None) -> bool:
        """Set the path. None undoes what was set."""
        if uri is not None and not (isinstance(uri, str) and uri.startswith("/")):
            return False
        if uri is None:
            self._request.undo_path()
        else:
            self._request.path = uri
        return True

    def get_body(self) -> str:
        """Return the body, fetched where it was not set."""
        body: str | None = self._kept("body", None)
        return self._request.body.decode("utf-8", "surrogateescape") if body is None else body

    def set_body(self, body: str | bytes | None) -> bool:
        """Set the body that the upstream gets. None undoes what was set."""
        if self._local is not None:
            self._local.pop("body", None)
        if body is None:
            self._request.undo_body()
            return True
        if not isinstance(body, (str, bytes)):
            return False
        if body:
            self._request.body = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else body
            return True
        self._request.undo_body()
        return self._keep_and_warn("body", "")

    # What has no place in the protocol, or does not belong to it.

    def get_var(self, name: str) -> str:
        """Return a variable of nginx or APISIX, asked of the gateway; "" where it is not set."""
        variables: dict[str, str] = self._kept("var", {})
        return variables[name] if name in variables else self._request.var(name) or ""

    def set_var(self, name: str, value: str | None) -> bool:
        """Keep a variable for `get_var`. None forgets it."""
        variables: dict[str, str] = dict(self._kept("var", {}))
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
        return self._keep_and_warn("var", variables)

    def get_id(self) -> int:
        """Return the gateway's number of the call."""
        return self._kept("id", self._request.id)

    def set_id(self, id: int | None) -> bool:
        """Keep an id for `get_id`."""
        return self._keep_and_warn("id", id)

    def get_conf_token(self) -> int:
        """Return the token of the configuration."""
        return self._kept("conf_token", self._request.conf_token)

    def set_conf_token(self, conf_token: int | None) -> bool:
        """Keep a token for `get_conf_token`."""
        return self._keep_and_warn("conf_token", conf_token)

    def get_method(self) -> str:
        """Return the method, in capitals."""
        return self._kept("method", self._request.method)

    def set_method(self, method: str | None) -> bool:
        """Keep a method for `get_method`."""
        return self._keep_and_warn("method", method)

    def get_remote_addr(self) -> str:
        """Return the client's address."""
        return self._kept("remote_addr", self._request.remote_addr)

    def set_remote_addr(self, remote_addr: str | None) -> bool:
        """Keep an address for `get_remote_addr`."""
        return self._keep_and_warn("remote_addr", remote_addr)

    def get_config(self, name: str) -> Any:
        """Return the value of one of the route's plugins, or None."""
        configs: Mapping[str, Any] = self._kept("configs", self._configs)
        return configs.get(name)

    def set_config(self, name: str, value: Any) -> bool:
        """Keep a value for `get_config`. None forgets it."""
        configs = self.get_configs()
        if value is None:
            configs.pop(name, None)
        else:
            configs[name] = value
        return True

    def get_configs(self) -> dict[str, Any]:
        """Return the route's plugins and their values."""
        # A copy of this call's own: what was given is shared by all calls of the route.
        configs: dict[str, Any] | None = self._kept("configs", None)
        if configs is None:
            configs = dict(self._configs)
            self._keep("configs", configs)
        return configs

    def set_configs(self, configs: Mapping[str, Any] | None) -> bool:
        """Keep values for `get_configs`. None forgets all."""
        self._keep("configs", dict(configs or {}))
        return True

    def follow(self, earlier: "PluginBaseRequest") -> None:
        """Take over what an earlier plugin of the chain kept here."""
        self._local = None if earlier._local is None else earlier._local.copy()
        vars(self).update(vars(earlier))

    def release(self) -> None:
        """Let go of the request, which refers to this object."""
        self._request = _RELEASED

    def _kept(self, name: str, came: _T) -> _T:
        kept: _T | None = None if self._local is None else self._local.get(name)
        return came if kept is None else kept

    def _keep(self, name: str, value: Any) -> None:
        if self._local is None:
            self._local = {}
        self._local[name] = value

    def _keep_and_warn(self, name: str, value: Any) -> bool:
        self._keep(name, value)
        if name not in _warned:
            _warned.add(name)
            what = "empty a request's body" if name == "body" else f"change a request's {name}"
            logger.warning("a 0.2 plugin called set_%s(), but the protocol can't %s: only get_%s() sees it", name, what, name)
        return True


class PluginBaseResponse:
    """
    The response that a 0.2 plugin gets. Anything that is set on it ends the chain and answers the client.

    Setters return whether they took the value; None deletes. A body is a str; bytes are taken too.

    Args: request_id: what `get_req_id` returns, the id of the call.
    """

    __slots__ = ("_body", "_headers", "_req_id", "_request", "_status_code")

    def __init__(self, request_id: int = 0) -> None:
        self._req_id: int | None = request_id
        self._request: Request | None = None  # whose id is returned, as long as no other was set
        self._headers: HeaderDict | None = None
        self._body: str | bytes | None = None
        self._status_code: int | None = None

    def changed(self) -> bool:
        """Tell whether anything was set that ends the chain. Empty values count."""
        return self._status_code is not None or self._body is not None or (self._headers is not None and len(self._headers) > 0)

    def reply(self) -> Reply | None:
        """
        Return the answer to the client, None where nothing was set. Must be called after `filter`.

        Raises: TypeError, ValueError: it can't be sent.
        """
        if not self.changed():
            return None
        headers = None if self._headers is None else with_values(self._headers)
        return Reply(self._status_code or 200, "" if self._body is None else self._body, headers)

    def get_header(self, name: str) -> str | None:
        """Return a header that was set, or None."""
        return None if self._headers is None else self._headers.get(name)

    def set_header(self, name: str, value: str | None) -> bool:
        """Set a header. None deletes it."""
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            return False
        headers = self._headers
        if headers is None:
            headers = self._headers = header_dict([])
        elif name in headers:
            del headers[name]
        if value is not None:
            headers[name] = value
        return True

    def get_headers(self) -> dict[str, Any]:
        """Return the headers that were set as a dict, whose changes count."""
        if self._headers is None:
            self._headers = header_dict([])
        return self._headers

    def set_headers(self, headers: Mapping[str, str | None] | None) -> bool:
        """Set all headers, in the place of those that were set. None deletes all."""
        if headers is not None and not isinstance(headers, Mapping):
            return False
        self._headers = HeaderDict(headers or {})
        return True

    def get_body(self) -> str:
        """Return the body that was set, "" where none was."""
        body = self._body
        return body.decode("utf-8", "surrogateescape") if isinstance(body, bytes) else body or ""

    def set_body(self, body: str | bytes | None) -> bool:
        """Set the body. None deletes it."""
        if body is not None and not isinstance(body, (str, bytes)):  # a union would be made anew each time
            return False
        self._body = body
        return True

    def get_status_code(self) -> int:
        """Return the status, 200 where none was set."""
        return self._status_code or 200

    def set_status_code(self, status_code: int | None) -> bool:
        """Set the status. None deletes it."""
        if status_code is not None and (not isinstance(status_code, int) or isinstance(status_code, bool)):
            return False
        self._status_code = status_code
        return True

    def get_req_id(self) -> int | None:
        """Return the id of the call that this answers."""
        return self._req_id if self._request is None else self._request.id

    def set_req_id(self, req_id: int | None) -> bool:
        """Keep an id for `get_req_id`. The gateway gets that of the call in any case."""
        self._request = _RELEASED
        self._req_id = req_id
        return True


def core_request(request: Request, configs: Mapping[str, str]) -> PluginBaseRequest:
    """Make a PluginBaseRequest, in a third of the time that the constructor takes."""
    seen = PluginBaseRequest.__new__(PluginBaseRequest)
    seen._request = request
    seen._configs = configs
    seen._headers = seen._args = None
    seen._local = None
    return seen


def core_response(request: Request) -> PluginBaseResponse:
    """Do the same for the PluginBaseResponse to a request."""
    response = PluginBaseResponse.__new__(PluginBaseResponse)
    response._request = request
    response._req_id = response._headers = response._body = response._status_code = None
    return response


def next_core_request(request: Request, configs: Mapping[str, str]) -> PluginBaseRequest:
    """
    Return the request for the next of several `PluginBase` plugins in a chain, which release 0.2 gave to all of them.

    `release` must be called on it after `filter`.
    """
    seen = core_request(request, configs)
    legacy = request._legacy or {}
    if "PluginBase" in legacy:
        seen.follow(legacy["PluginBase"])
    request._legacy = {**legacy, "PluginBase": seen}
    return seen
