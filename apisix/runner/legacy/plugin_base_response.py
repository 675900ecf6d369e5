# SPDX-License-Identifier: Apache-2.0
"""The response that the `filter` of a `PluginBase` gets. If the plugin sets anything on it, the chain ends and it is sent to the client."""

from collections.abc import Mapping
from typing import Any, Final

from apisix.runner.http.header_rules import check_header
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.legacy.edits import check_body, given_mapping, given_number, given_text, given_value, warn_once
from apisix.runner.legacy.header_dict import HeaderDict, header_dict, with_values

_RELEASED: Final[Any] = None  # replaces an object's request after `filter`


class PluginBaseResponse:
    """
    The response that the `filter` of a `PluginBase` gets. If anything is set on it, the chain ends and it is sent to the client.

    As in release 0.2, an empty value (None, "", 0, {}) changes nothing and the setter returns False. Otherwise the setter returns True. A
    value of another type raises TypeError, and the call fails.

    Args:
        request_id: what `get_req_id` returns, the id of the call.
        plugin: the plugin's name, for warnings.
    """

    __slots__ = ("_body", "_headers", "_plugin", "_req_id", "_request", "_status_code")

    def __init__(self, request_id: int = 0, plugin: str = "") -> None:
        self._plugin = plugin
        self._req_id: int | None = request_id
        self._request: Request | None = None  # its id is returned unless another id was set
        self._headers: HeaderDict | None = None
        self._body: str | bytes | None = None
        self._status_code: int | None = None

    def changed(self) -> bool:
        """Return True if anything was set, which ends the chain."""
        return bool(self._status_code or self._body or self._headers)

    def reply(self) -> Reply | None:
        """
        Return the response to the client, or None if nothing was set. Must be called after `filter`.

        Raises: TypeError, ValueError: it can't be sent.
        """
        if not self.changed():
            return None
        headers = None if self._headers is None else with_values(self._headers)
        return Reply(self._status_code or 200, "" if self._body is None else self._body, headers)

    def get_header(self, name: str) -> str | None:
        """Return a header that was set, or None."""
        return None if self._headers is None else self._headers.get(name)

    def set_header(self, name: str, value: str | bytes | None) -> bool:
        """Set a header. Raises: TypeError, ValueError: it can't be sent."""
        text = given_text("a header's name", name) and given_value("header ", name, value)
        if not text:
            return False
        check_header(name, text)
        headers = self._headers
        if headers is None:
            headers = self._headers = header_dict([])
        elif name in headers:
            del headers[name]
        headers[name] = text
        return True

    def get_headers(self) -> dict[str, Any]:
        """Return the headers that were set, as a dict. Changes of the dict are changes of the response."""
        if self._headers is None:
            self._headers = header_dict([])
        return self._headers

    def set_headers(self, headers: Mapping[str, str | None] | None) -> bool:
        """Replace all headers that were set. Raises: TypeError, ValueError: `headers` is not a dict, or a header can't be sent."""
        headers = given_mapping("headers", headers)
        if not headers:
            return False
        for name, value in headers.items():
            if value is not None:
                check_header(name, given_value("header ", name, value))
        self._headers = HeaderDict(headers)
        return True

    def get_body(self) -> str:
        """Return the body that was set, or ""."""
        body = self._body
        return body.decode("utf-8", "surrogateescape") if isinstance(body, bytes) else body or ""

    def set_body(self, body: str | bytes | None) -> bool:
        """Set the body. Raises: TypeError: it is neither str nor bytes."""
        check_body(body)
        if not body:
            return False
        self._body = body
        return True

    def get_status_code(self) -> int:
        """Return the status that was set, or 200."""
        return self._status_code or 200

    def set_status_code(self, status_code: int | None) -> bool:
        """Set the status. Returns: True if it is between 100 and 599. Raises: TypeError: it is not an int."""
        number = given_number("status_code", status_code)
        if not 100 <= number <= 599:
            if number:
                warning = f"called set_status_code({number}), which has no effect: a status is between 100 and 599"
                warn_once(self._plugin, warning, "status_code")
            return False
        self._status_code = number
        return True

    def get_req_id(self) -> int | None:
        """Return the id of the call."""
        return self._req_id if self._request is None else self._request.id

    def set_req_id(self, req_id: int | None) -> bool:
        """Keep an id for `get_req_id`. The gateway always gets the id of the call. Raises: TypeError: it is not an int."""
        if not given_number("req_id", req_id):
            return False
        self._request = _RELEASED
        self._req_id = req_id
        return True

    @property  # type: ignore[misc]  # as in PluginBaseRequest
    def __class__(self) -> type:
        """The class `Response`, because plugins are annotated with it and may use `isinstance`."""
        return Response


def plugin_base_response(request: Request, plugin: str) -> PluginBaseResponse:
    """Return the PluginBaseResponse to a request. This is faster than the constructor."""
    response = PluginBaseResponse.__new__(PluginBaseResponse)
    response._request = request
    response._plugin = plugin
    response._req_id = response._headers = response._body = response._status_code = None
    return response
