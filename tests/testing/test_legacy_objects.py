# SPDX-License-Identifier: Apache-2.0
"""
`Request` and `Response` of the releases 0.1 and 0.2, created in tests of an author.

These tests assert what the unit tests of the two releases assert about the classes, except for the wire format.
"""

from typing import Any

import pytest

from apisix.runner.http.request import Request as RunnerRequest
from apisix.runner.http.response import Response as RunnerResponse
from apisix.runner.plugin.base import Base
from apisix.runner.plugin.core import PluginBase
from apisix.testing import release_01, release_02

# The name, the arguments of the getter, a value without effect, and an effective value.
REQUEST_SETTERS: list[tuple[str, tuple[Any, ...], Any, Any]] = [
    ("id", (), 0, 1000),
    ("conf_token", (), 0, 1),
    ("method", (), "hello", "GET"),
    ("uri", (), "hello", "/hello"),
    ("header", ("hello",), "", "world"),
    ("headers", (), {}, {"hello": "world"}),
    ("configs", (), {}, {"hello": "world"}),
    ("arg", ("hello",), "", "world"),
    ("args", (), {}, {"hello": "world"}),
    ("remote_addr", (), "", "127.0.0.1"),
    ("body", (), "", "world"),
    ("var", ("hello",), "", "world"),
]
RESPONSE_SETTERS: list[tuple[str, tuple[Any, ...], Any, Any]] = [
    ("header", ("hello",), "", "world"),
    ("headers", (), {}, {"hello": "world"}),
    ("body", (), "", "world"),
    ("req_id", (), 0, 1000),
    ("status_code", (), 0, 200),
]


def set_and_get(made: Any, name: str, key: tuple[Any, ...], nothing: Any, value: Any) -> tuple[bool, bool, bool, Any]:
    """Return if a value without effect was refused, if it changed nothing, if the effective value was accepted, and the new value."""
    getter, setter = getattr(made, f"get_{name}"), getattr(made, f"set_{name}")
    before = getter(*key)
    is_refused = setter(*key, nothing) is False
    return is_refused, getter(*key) == before, setter(*key, value), getter(*key)


@pytest.mark.parametrize(("name", "key", "nothing", "value"), REQUEST_SETTERS, ids=lambda value: value if isinstance(value, str) else "")
def test_setters_of_a_request_of_release_02(name: str, key: tuple[Any, ...], nothing: Any, value: Any) -> None:
    assert set_and_get(release_02.Request(), name, key, nothing, value) == (True, True, True, value)


@pytest.mark.parametrize(("name", "key", "nothing", "value"), RESPONSE_SETTERS, ids=lambda value: value if isinstance(value, str) else "")
def test_setters_of_a_response_of_release_02(name: str, key: tuple[Any, ...], nothing: Any, value: Any) -> None:
    assert set_and_get(release_02.Response(), name, key, nothing, value) == (True, True, True, value)


def test_a_configuration_may_be_empty_in_release_02() -> None:
    request = release_02.Request()
    assert request.set_config("", "") is False
    assert request.set_config("hello", "") is True
    assert request.set_config("hello", "world") is True
    assert request.get_config("hello") == "world"


def test_a_request_of_release_02_is_empty_at_first() -> None:
    """An empty request has nothing to send until the path, the headers or the arguments are set."""
    request = release_02.Request()
    assert (request.get_uri(), request.get_method(), request.get_headers(), request.get_args()) == ("", "", {}, {})
    assert (request.get_id(), request.get_conf_token(), request.get_remote_addr(), request.get_configs()) == (0, 0, "", {})
    assert (request.get_body(), request.get_var("hello")) == ("", "")
    assert (request.set_uri(""), request.set_headers({}), request.set_args({}), request.checked()) == (False, False, False, False)
    assert (request.set_header("X-Hello", "World"), request.checked()) == (True, True)


def test_a_response_of_release_02_is_empty_at_first() -> None:
    """A response with only an id is empty, and one with a body is not. The default status is 200."""
    response = release_02.Response()
    assert (response.set_req_id(1), response.changed(), response.get_status_code(), response.get_body()) == (True, False, 200, "")
    assert (response.set_body("Hello"), response.changed()) == (True, True)


def test_a_request_of_release_02_shows_what_is_given() -> None:
    request = release_02.Request(
        "/get",
        method="POST",
        headers={"x-key": "right"},
        args=[("a", "1"), ("flag", None)],
        body="für",
        vars={"host": "h", "binary": b"\xff"},
        remote_addr="::1",
        id=7,
        conf_token=8,
        configs={"guard": "{}"},
    )
    assert (request.get_uri(), request.get_method(), request.get_header("X-Key")) == ("/get", "POST", "right")
    assert (request.get_args(), request.get_id(), request.get_conf_token()) == ({"a": "1", "flag": ""}, 7, 8)
    assert (request.get_body(), request.get_var("host"), request.get_var("binary").encode("latin-1")) == ("für", "h", b"\xff")
    assert (request.get_remote_addr(), request.get_config("guard")) == ("0000:0000:0000:0000:0000:0000:0000:0001", "{}")


def test_a_plugin_of_release_02_takes_them() -> None:
    """They are instances of the classes in the plugin's annotations. The methods of the base class return None."""
    request, response = release_02.Request(headers={"x-key": "wrong"}), release_02.Response()
    assert (isinstance(request, RunnerRequest), isinstance(response, RunnerResponse)) == (True, True)
    plugin: Any = PluginBase()
    assert (plugin.name(), plugin.config(None), plugin.filter(None, request, response)) == (None, None, None)
    request.r.log.info("the key {} is unknown", request.get_header("x-key"))


REQUEST_ATTRIBUTES: dict[str, Any] = {
    "id": 1000,
    "conf_token": 10,
    "method": "GET",
    "path": "/hello",
    "headers": {"X-HELLO": "Python"},
    "args": {"hello": "Python"},
    "src_ip": "127.0.0.1",
}
RESPONSE_ATTRIBUTES: dict[str, Any] = {
    "headers": {"X-HELLO": "Python"},
    "body": "Hello, Python",
    "args": {"hello": "Python"},
    "path": "/hello",
    "status_code": 200,
}


@pytest.mark.parametrize(
    ("made", "attributes"),
    [(release_01.Request, REQUEST_ATTRIBUTES), (release_01.Response, RESPONSE_ATTRIBUTES)],
    ids=["request", "response"],
)
def test_attributes_of_release_01(made: Any, attributes: dict[str, Any]) -> None:
    """The attributes are empty at first, and can be assigned and read."""
    instance = made()
    assert {name: getattr(instance, name) for name in attributes} == {name: type(value)() for name, value in attributes.items()}
    for name, value in attributes.items():
        setattr(instance, name, value)
    assert {name: getattr(instance, name) for name in attributes} == attributes


def test_a_request_of_release_01_shows_what_is_given() -> None:
    request = release_01.Request("/hello", method="GET", headers={"h": "headers"}, args={"a": "args"}, src_ip="127.0.0.1", id=1)
    assert (request.path, request.method, request.src_ip, request.id) == ("/hello", "GET", "127.0.0.1", 1)
    assert (request.args.get("a"), request.headers.get("h")) == ("args", "headers")


def test_a_plugin_of_release_01_decides() -> None:
    class Guard(Base):
        def filter(self, request: Any, response: Any) -> None:
            if request.headers.get("x-key") != self.config["key"]:
                response.status_code = 401
                self.stop()

    plugin, request, response = Guard(), release_01.Request(headers={"x-key": "wrong"}), release_01.Response()
    plugin.config = {"key": "right"}
    plugin.filter(request, response)
    assert (plugin.action, response.status_code) == (1, 401)
