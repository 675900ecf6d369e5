# SPDX-License-Identifier: Apache-2.0
"""plugins/call_out.py."""

import asyncio
import json

import httpx
import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client
from examples.tests.conftest import Service


def test_allowed(client: Client, service: Service) -> None:
    """The service gets the method, the path and the token. The upstream gets the user that it returns."""
    service.headers["x-user"] = "ali"
    headers = {"authorization": "Bearer abc", "x-user": "root"}
    result = client.put("/a%20b", headers=headers, plugins=[("call-out", {"url": service.url})])
    ((_, asked_with, data),) = service.asked

    assert json.loads(data) == {"method": "PUT", "path": "/a%20b", "client": "127.0.0.1"}
    assert asked_with["authorization"] == "Bearer abc"
    assert result.upstream.headers["x-user"] == "ali"


def test_client_does_not_name_itself(client: Client, service: Service) -> None:
    """If the service returns no user, the header that the client sent does not reach the upstream."""
    result = client.get("/", headers={"x-user": "root"}, plugins=[("call-out", {"url": service.url})])

    assert "x-user" not in result.upstream.headers


@pytest.mark.parametrize("status", [401, 403])
def test_forbidden(client: Client, service: Service, status: int) -> None:
    """A refusal of the service is sent to the client."""
    service.status = status
    result = client.get("/", plugins=[("call-out", {"url": service.url})])

    assert result.reply.status == status


def test_any_bytes(client: Client, service: Service) -> None:
    """A path and a header that are not UTF-8 are sent to the service, and do not make the plugin fail."""
    result = client.get("/%ff", headers={"authorization": "\udcff"}, plugins=[("call-out", {"url": service.url})])
    ((_, _, data),) = service.asked

    assert json.loads(data)["path"] == "/%FF"
    assert not result.stopped


@pytest.mark.parametrize("status", [302, 404, 500])
def test_no_answer(client: Client, service: Service, status: int) -> None:
    """If the service fails, the request is refused."""
    service.status = status
    plugins = [("call-out", {"url": service.url})]
    result = client.get("/", plugins=plugins, raise_errors=False)

    assert result.reply.status == 503
    with pytest.raises(httpx.HTTPStatusError):
        client.get("/", plugins=plugins)


def test_connections_are_kept(client: Client, service: Service) -> None:
    """All calls of a route use one connection."""
    for _ in range(3):
        client.get("/", plugins=[("call-out", {"url": service.url})])

    assert (len(service.asked), service.connections) == (3, 1)


async def test_calls_do_not_wait_for_each_other(apisix_registry: Registry) -> None:
    """While one call waits for the service, others continue. The service runs on the event loop of this async test."""
    both_have_come = asyncio.Barrier(2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await both_have_come.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nX-User: ali\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, Client(registry=apisix_registry) as client:
        host, port = server.sockets[0].getsockname()
        plugins = [("call-out", {"url": f"http://{host}:{port}/"})]
        results = await asyncio.gather(*(client.aget("/", plugins=plugins) for _ in range(2)))

    assert [result.upstream.headers["x-user"] for result in results] == ["ali", "ali"]


def test_two_tokens(client: Client, service: Service) -> None:
    """The service gets all that the client sent, and not the first of two tokens."""
    headers = [("authorization", "Bearer abc"), ("authorization", "Bearer x")]
    client.get("/", headers=headers, plugins=[("call-out", {"url": service.url})])

    assert service.asked[0][1]["authorization"] == "Bearer abc,Bearer x"


@pytest.mark.parametrize(
    ("raw", "url"), [("/admin/..%2fpublic", "/public"), ("//public", "/public"), ("/./a", "/a"), ("/a%2Fb", "/a/b"), ("/a%5Cb", "/a%5Cb")]
)
def test_ambiguous_path(client: Client, service: Service, raw: str, url: str) -> None:
    """A path that the upstream could read differently is refused: it gets the path as the client has sent it."""
    variables = {"real_request_uri": raw}

    assert client.get(url, vars=variables, plugins=[("call-out", {"url": service.url})]).reply.status == 400
    assert service.asked == []
