# SPDX-License-Identifier: Apache-2.0
"""plugins/sessions.py."""

import json
from typing import Any

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

COOKIE = "__Host-session"
ALI = {"user": "ali"}


class Clock:
    """The clock of the plugin."""

    now_s = 1000.0

    def time(self) -> float:
        """Return the time, in seconds."""
        return self.now_s


@pytest.fixture
def clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the plugin's clock."""
    clock = Clock()
    monkeypatch.setitem(vars(client.plugin("sessions"))["on_request"].__globals__, "time", clock)
    return clock


def request(client: Client, id: str | None = None, **headers: str) -> Result:
    """Send a request of a browser, with the cookie if an id is given."""
    cookie = {} if id is None else {"cookie": f"theme=dark; {COOKIE}={id}"}
    return client.get("/", headers={**cookie, **headers}, plugins=["sessions"])


def respond(client: Client, of: Result, **headers: str) -> Result:
    """Send the response of the upstream."""
    return client.respond(200, headers, plugins=["sessions"], of=of)


def log_in(client: Client, data: Any = ALI, of: Result | None = None) -> str:
    """Begin a session, and return its id."""
    return new_id(respond(client, of or request(client), **{"x-session": json.dumps(data)}))


def new_id(result: Result) -> str:
    """Return the id that a browser gets."""
    return result.response.headers["set-cookie"].partition(";")[0].removeprefix(f"{COOKIE}=")


def data(client: Client, id: str) -> Any:
    """Return the data that the upstream gets."""
    return json.loads(request(client, id).upstream.headers.get("x-session", "null"))


def test_session(client: Client, apisix_registry: Registry) -> None:
    """Each worker finds the session of a browser. Sessions are separate, and their data can be any JSON."""
    with Client(registry=apisix_registry, share_store=client) as other:
        ids = [log_in(client), log_in(other, {"user": "zo\u00eb", "roles": [1]})]
        found = [data(each, id) for each in (client, other) for id in ids]

    assert found == [ALI, {"user": "zo\u00eb", "roles": [1]}] * 2


def test_cookie(client: Client) -> None:
    """Scripts and other sites do not get the cookie, and the browser does not get the data."""
    result = respond(client, request(client), **{"x-session": json.dumps(ALI)})
    id, *attributes = result.response.headers["set-cookie"].split("; ")

    assert attributes == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
    assert len(id.removeprefix(f"{COOKIE}=")) >= 43
    assert "x-session" not in result.response.headers


def test_store_has_no_ids(client: Client) -> None:
    """The keys of the store are digests, so that they can't be used as ids."""
    id = log_in(client)

    assert client.store("sessions").get(id) is None


@pytest.mark.parametrize("id", [None, "", "unknown", "\udcff", "x" * 5000])
def test_no_session(client: Client, id: str | None) -> None:
    """Without a valid id, the upstream gets no data, not even those that the client has sent."""
    result = request(client, id, **{"x-session": json.dumps(ALI)})

    assert "x-session" not in result.upstream.headers
    assert "set-cookie" not in respond(client, result).response.headers


def test_login_with_an_id_that_is_known(client: Client) -> None:
    """A login changes the id, and the old one is worthless, so nobody can choose the id of another one."""
    old = log_in(client, {"cart": 1})
    new = log_in(client, ALI, request(client, old))

    assert (data(client, old), data(client, new)) == (None, ALI)


def test_logout(client: Client) -> None:
    """A logout deletes the session and the cookie."""
    id = log_in(client)
    result = respond(client, request(client, id), **{"x-session": "null"})

    assert "Max-Age=0" in result.response.headers["set-cookie"]
    assert data(client, id) is None


def test_idle_session(client: Client, clock: Clock) -> None:
    """A session ends if it is not used, and lasts while it is, with one id after the other."""
    used, unused = log_in(client), log_in(client)
    for _ in range(3):
        clock.now_s += 1200
        client.advance(1200)
        used = new_id(respond(client, request(client, used)))

    assert (data(client, used), data(client, unused)) == (ALI, None)


def test_rotation(client: Client, clock: Clock) -> None:
    """An id is replaced when it is old, once. Requests that the browser has sent before can use it for a moment."""
    old = log_in(client)
    clock.now_s += 301
    first, second = request(client, old), request(client, old)
    new = new_id(respond(client, first))
    others = [respond(client, each).response.headers for each in (second, request(client, old), request(client, new))]
    before = [data(client, id) for id in (old, new)]
    client.advance(31)

    assert new != old
    assert all("set-cookie" not in headers for headers in others)
    assert before == [ALI, ALI]
    assert [data(client, id) for id in (old, new)] == [None, ALI]


def test_logout_after_rotation(client: Client, clock: Clock) -> None:
    """A logout ends the session with all its ids."""
    old = log_in(client)
    clock.now_s += 301
    new = new_id(respond(client, request(client, old)))
    respond(client, request(client, new), **{"x-session": "null"})

    assert [data(client, id) for id in (old, new)] == [None, None]


@pytest.mark.parametrize("text", ["no JSON", "[]", "1"])
def test_response_that_is_not_valid(client: Client, text: str) -> None:
    """A header that is not a JSON object is a mistake of the upstream, so the client does not get the response."""
    result = client.respond(200, {"x-session": text}, plugins=["sessions"], of=request(client), raise_errors=False)

    assert result.response.status == 503


@pytest.mark.parametrize("name", ["x-session", "x_session", "X_Session"])
def test_header_of_a_client(client: Client, name: str) -> None:
    """The upstream does not get it in any spelling, because many upstreams read underscores as hyphens."""
    assert not {"x-session", "x_session"} & {each.lower() for each in request(client, **{name: json.dumps(ALI)}).upstream.headers}
