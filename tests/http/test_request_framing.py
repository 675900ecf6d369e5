# SPDX-License-Identifier: Apache-2.0
"""Tests of the framing headers of a request, such as content-length, which plugins can't change freely."""

import logging
from collections.abc import Callable

import pytest

from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http.header_rules import REQUEST_FRAMING
from apisix.runner.http.request import Request
from apisix.runner.legacy import edits
from apisix.runner.legacy.base_adapter import BaseRequest, BaseResponse
from apisix.runner.legacy.plugin_base_request import PluginBaseRequest
from tests.http.calls import Pairs, a_request, rewrite, sent

RECEIVED: Pairs = [(name, "received") for name in REQUEST_FRAMING]
NOT_SETTABLE = [name for name, rule in REQUEST_FRAMING.items() if not rule.can_be_set]

Edit = Callable[[Request], object]


@pytest.fixture(autouse=True)
def reset_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the warnings, each of which is logged once in a process."""
    monkeypatch.setattr(edits, "_reported", set())


def test_length_beside_a_new_body() -> None:
    """A plugin can't shorten the client's body, whose rest would be run as a second request, by setting the length of a new one."""
    request = a_request(headers=[("content-length", "60")], method="POST")
    request.body = b"hello"
    with pytest.raises(UnsupportedEdit, match="run the rest as a second request"):
        request.headers["content-length"] = "5"

    assert list(rewrite(request).headers) == []
    assert rewrite(request).body == b"hello"


@pytest.mark.parametrize("is_present", [True, False])
@pytest.mark.parametrize("name", NOT_SETTABLE)
def test_set(name: str, is_present: bool) -> None:
    """Each way to set a header that can't be set raises an error at once, in any case, and nothing is sent."""
    ways: list[Edit] = [
        lambda request: request.headers.__setitem__(name, "other"),
        lambda request: request.headers.__setitem__(name.upper(), "other"),
        lambda request: request.headers.update({"x-a": "1", name.title(): "other"}),
        lambda request: request.headers.update([(name, "other")]),
        lambda request: request.headers.__setitem__(name, ""),
    ]
    if not is_present:
        ways += [
            lambda request: request.headers.add(name, "other"),
            lambda request: request.headers.setdefault(name, "other"),
            lambda request: request.headers.extend({name: "other"}),
            lambda request: request.headers.merge({name: "other"}),
        ]
    for way in ways:
        for iterated in (False, True):
            request = a_request(headers=RECEIVED if is_present else [])
            if iterated:
                request.headers._materialize()
            before = sent(request).action
            with pytest.raises(UnsupportedEdit, match=f"'{name}' can't be set"):
                way(request)
            assert sent(request).action == before


@pytest.mark.parametrize("name", REQUEST_FRAMING)
def test_set_to_the_received_value(name: str) -> None:
    """Setting a header to its received value is not an edit, so that all headers can be copied."""
    request = a_request(headers=RECEIVED)
    request.headers[name] = "received"
    request.headers.update(request.headers)
    request.headers.update(dict(request.headers))
    assert sent(request).action is None


@pytest.mark.parametrize(("name", "is_sent"), [(name, rule.sends_deletion) for name, rule in REQUEST_FRAMING.items()])
def test_delete(name: str, is_sent: bool) -> None:
    """A deletion is accepted, and sent if that is safe."""
    expected = [(name, None)] if is_sent else []
    ways: list[Edit] = [
        lambda request: request.headers.__delitem__(name),
        lambda request: request.headers.pop(name.upper()),
        lambda request: request.headers.popall(name),
    ]
    for way in ways:
        request = a_request(headers=[("x", "1"), (name, "received")])
        way(request)
        request.headers["x"] = "2"
        assert name not in request.headers
        assert sorted(rewrite(request).headers, key=lambda pair: pair[0]) == sorted([*expected, ("x", "2")], key=lambda pair: pair[0])


def test_allow_list() -> None:
    """A loop that deletes all headers except some does not delete the framing of the request."""
    request = a_request(headers=[("host", "h"), ("content-length", "3"), ("cookie", "a=1"), ("accept", "*/*")])
    for name in list(request.headers):
        if name != "accept":
            del request.headers[name]

    assert list(rewrite(request).headers) == [("cookie", None)]


def test_clear() -> None:
    """Clearing all headers deletes only those whose deletion is sent."""
    request = a_request(headers=RECEIVED)
    request.headers.clear()
    assert sorted(rewrite(request).headers) == sorted((name, None) for name, rule in REQUEST_FRAMING.items() if rule.sends_deletion)


def test_one_of_two_values() -> None:
    """A header that was received twice and is reduced to one value is not sent, since only its deletion could be sent."""
    request = a_request(headers=[("connection", "close"), ("connection", "te")])
    request.headers.popone("connection")
    assert sent(request).action is None


def test_deleted_and_set_again() -> None:
    """After a deletion, setting the received value again changes nothing, and setting another value raises an error."""
    request = a_request(headers=RECEIVED)
    del request.headers["content-length"]
    request.headers["content-length"] = "received"
    with pytest.raises(UnsupportedEdit):
        request.headers["content-length"] = "5"
    assert sent(request).action is None


def test_host() -> None:
    """`host` can be set. It can't be emptied, since the upstream would get a request without it."""
    request = a_request(headers=[("host", "h")])
    request.headers["Host"] = "other"
    assert list(rewrite(request).headers) == [("host", "other")]
    with pytest.raises(UnsupportedEdit, match="'host' can't be emptied"):
        request.headers["host"] = ""


class TestLegacyPlugins:
    """Legacy plugins set a length with a body. That still works, and the length is not sent."""

    def test_plugin_base(self, caplog: pytest.LogCaptureFixture) -> None:
        """Release 0.2: the setter returns True, and a warning is logged once for each header that is not sent."""
        request = a_request(headers=RECEIVED, method="POST")
        seen = PluginBaseRequest(request)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert seen.set_body("hello") is True
                assert seen.set_header("Content-Length", "5") is True
                assert seen.set_headers({"transfer-encoding": "chunked", "x-a": "1"}) is True
            seen.apply()

        assert list(rewrite(request).headers) == [("x-a", "1")]
        assert rewrite(request).body == b"hello"
        assert [record.getMessage().split(":")[0] for record in caplog.records] == [
            "plugin (without a name) sets Content-Length, which is not sent",
            "plugin (without a name) sets transfer-encoding, which is not sent",
        ]
        assert "content-length" in caplog.text.lower()

    def test_plugin_base_dict(self) -> None:
        """Release 0.2: a plugin sets and deletes names in the dict of headers."""
        request = a_request(headers=RECEIVED)
        seen = PluginBaseRequest(request)
        headers = seen.get_headers()
        headers["content-length"] = "5"
        headers["upgrade"] = "h2c"
        headers["x-a"] = "1"
        del headers["host"]
        del headers["expect"]
        seen.apply()
        assert list(rewrite(request).headers) == [("expect", None), ("x-a", "1")]

    def test_plugin_base_deletes_all(self) -> None:
        """Release 0.2: a plugin clears the dict of headers."""
        request = a_request(headers=[("content-length", "3"), ("host", "h"), ("x", "1")])
        seen = PluginBaseRequest(request)
        seen.get_headers().clear()
        seen.apply()
        assert list(rewrite(request).headers) == [("x", None)]

    def test_base(self, caplog: pytest.LogCaptureFixture) -> None:
        """Release 0.1: a plugin returns all headers, of which some are changed."""
        request = a_request(headers=RECEIVED)
        seen, response = BaseRequest(request), BaseResponse()
        headers = seen.headers
        headers["Content-Length"] = "5"
        headers["x-a"] = "1"
        response.headers = headers
        with caplog.at_level(logging.WARNING):
            response.rewrite(request, seen, "guard")

        assert list(rewrite(request).headers) == [("x-a", "1")]
        assert len(caplog.records) == 1
