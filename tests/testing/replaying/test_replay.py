# SPDX-License-Identifier: Apache-2.0
"""`client.replay`: what differs if plugins have changed, and nothing if they have not."""

from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from msgspec.structs import replace

from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.records import redaction
from apisix.testing import Client, NotComparable, RecordedCall, Result
from tests.testing.replaying.recording import client_of, recorded

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"
BEFORE = """
    def on_request(self, request):
        request.headers["x-user"] = request.var("consumer_name") or "nobody"
        request.args["page"] = "1"
        request.path = "/v1" + request.path
        if request.headers.get("x-stop"):
            return Reply(403, "stopped", {"x-why": "because"})
"""
AFTER_RESPONSE = """
    def on_response(self, response):
        response.status = 404
        response.headers["x-size"] = str(len(response.read()))
        response.body = b"changed"
"""


@pytest.fixture(scope="module")
def examples() -> Registry:
    return Registry.load([EXAMPLES])


@pytest.fixture
def client(examples: Registry) -> Iterator[Client]:
    with Client(registry=examples, raise_errors=False) as client:
        yield client


def record_of(tmp_path: Path, source: str = BEFORE, headers: dict[str, str] | None = None) -> RecordedCall:
    """Record a call of a plugin `say`."""
    with client_of(tmp_path / "before", say=source) as client:
        return recorded(client.get("/users?id=7", headers=headers, vars={"consumer_name": "jack"}, plugins=["say"]))


def changes(tmp_path: Path, old: str, new: str, headers: dict[str, str] | None = None) -> list[str]:
    """Record a call, change the plugin, and return what differs."""
    record = record_of(tmp_path, headers=headers)
    assert old in BEFORE
    with client_of(tmp_path / "after", say=BEFORE.replace(old, new)) as client:
        return [str(difference) for difference in client.replay(record).differences]


@pytest.mark.parametrize("headers", [None, {"x-stop": "yes"}])
def test_nothing_differs_if_nothing_has_changed(tmp_path: Path, headers: dict[str, str] | None) -> None:
    assert changes(tmp_path, BEFORE, BEFORE, headers) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '"x-user"] = ',
            '"x-user"] = "the " + ',
            ["say: edit of header x-user: jack -> the jack", "reply header x-user: jack -> the jack"],
        ),
        ('"1"', '"2"', ["say: edit of argument page: 1 -> 2", "reply argument page: 1 -> 2"]),
        (
            "/v1",
            "/v2",
            ["say: edit of path: /v1/users -> /v2/users", "path of the reply: /v1/users -> /v2/users"],
        ),
        (
            'request.args["page"] = "1"',
            "pass",
            ["say: edit of argument page: 1 -> nothing", "reply argument page: 1 -> nothing", "reply argument id: nothing -> 7"],
        ),
        (
            "consumer_name",
            "consumer_group",
            [
                "requests the variable consumer_group, which was not recorded",
                "say: edit of header x-user: jack -> nobody",
                "reply header x-user: jack -> nobody",
            ],
        ),
    ],
)
def test_a_changed_rewrite(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert changes(tmp_path, old, new) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("403", "401", ["say: status of its reply: 403 -> 401", "status of the reply: 403 -> 401"]),
        ('"stopped"', '"go away"', ["body of the reply: stopped -> go away"]),
        ('"because"', '"why not"', ["reply header x-why: because -> why not"]),
    ],
)
def test_a_changed_reply(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert changes(tmp_path, old, new, {"x-stop": "yes"}) == expected


def test_a_plugin_that_fails_now(tmp_path: Path) -> None:
    found = changes(tmp_path, 'request.args["page"] = "1"', 'raise RuntimeError("no page")')

    assert found == [
        "outcome: rewrite -> refused",
        "say: error: nothing -> RuntimeError: no page",
        "kind of the reply: rewrite -> error",
        "error code of the reply: nothing -> SERVICE_UNAVAILABLE",
        "path of the reply: /v1/users -> nothing",
        "reply argument page: 1 -> nothing",
        "reply header x-user: jack -> nothing",
    ]


def test_a_plugin_that_does_not_exist_any_more(tmp_path: Path) -> None:
    with client_of(tmp_path / "after", other=BEFORE) as client:
        result = client.replay(record_of(tmp_path))

    assert [difference.what for difference in result.differences][:2] == ["outcome", "error"]


@pytest.mark.parametrize(
    ("status", "expected"), [("404", []), ("410", ["say: edit of status: 404 -> 410", "status of the reply: 404 -> 410"])]
)
def test_a_response(tmp_path: Path, status: str, expected: list[str]) -> None:
    with client_of(tmp_path / "before", say=AFTER_RESPONSE) as client:
        record = recorded(client.respond(200, {"x-a": "b"}, b"body of 17 bytes.", plugins=["say"]))
    with client_of(tmp_path / "after", say=AFTER_RESPONSE.replace("404", status)) as client:
        result = client.replay(record)

    assert [str(difference) for difference in result.differences] == expected
    assert result.response.headers["x-size"] == "17"


def test_a_body_that_was_not_recorded(tmp_path: Path) -> None:
    """No plugin has read it, so the record does not have it."""
    found = changes(tmp_path, 'request.path = "/v1" + request.path', 'request.path = "/v1" + request.path + request.text()')

    assert found == ["requests the request's body, which was not recorded"]


READ = """
    def on_request(self, request):
        request.headers["x-size"] = str(len(request.read()))
"""
NO_READ = """
    def on_request(self, request):
        request.headers["x-size"] = "40"
"""


def test_a_body_of_which_only_the_beginning_was_recorded(tmp_path: Path) -> None:
    """The call can be compared only if no plugin reads the body."""
    with client_of(tmp_path / "before", say=READ) as client:
        record = recorded(client.post("/", body=b"x" * 40, plugins=["say"]), RecordMaker(body_limit=10))
        with pytest.raises(NotComparable, match="the request's body, and the record has only its beginning"):
            client.replay(record)
    with client_of(tmp_path / "after", say=NO_READ) as client:
        assert client.replay(record).differences == []


def test_a_call_that_the_gateway_has_ended(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    cancelled = RecordedCall(replace(record.call, reply=None, outcome="cancelled"), record.configuration)
    with client_of(tmp_path / "after", say=BEFORE) as client, pytest.raises(NotComparable, match="closed the connection"):
        client.replay(cancelled)


def test_the_record_of_a_result_needs_plugins(tmp_path: Path) -> None:
    """A record does not contain its configuration, which is in another line of a file."""
    record = record_of(tmp_path).call
    with client_of(tmp_path / "after", say=BEFORE.replace("/v1", "/v2")) as client:
        with pytest.raises(NotComparable, match=r"plugins=\[\.\.\.\]"):
            client.replay(record)
        assert client.replay(record, plugins=["say"]).differences != []


async def test_in_an_async_test(tmp_path: Path) -> None:
    async with client_of(tmp_path / "before", say=BEFORE) as client:
        record = recorded(await client.aget("/", plugins=["say"]))
        assert (await client.areplay(record)).differences == []


def keyed(client: Client, key: str) -> Result:
    return client.get("/", headers={"x-api-key": key}, plugins=[("key-auth", {"keys": ["alpha-alpha", "beta-beta"]})])


@pytest.mark.parametrize("key", ["alpha-alpha", "unknown-key"])
def test_keys_are_compared_by_their_digests(client: Client, key: str) -> None:
    record = recorded(keyed(client, key))

    assert "alpha-alpha" not in repr(record)
    assert client.replay(record).differences == []


KEY_AUTH = (EXAMPLES / "key_auth.py").read_text()


def test_a_broken_check_of_keys_is_a_difference_without_secrets_too(client: Client, tmp_path: Path) -> None:
    """The key in the request is one of those in the configuration, so the record has everything that the plugin needs."""
    record = recorded(keyed(client, "beta-beta"))
    (tmp_path / "key_auth.py").write_text(KEY_AUTH.replace("if not sum(", "if sum("))
    with Client([tmp_path], raise_errors=False) as changed:
        found = [str(difference) for difference in changed.replay(record).differences]

    assert found[0] == "outcome: rewrite -> stop"


def test_a_check_that_accepts_everything_is_a_difference(client: Client, tmp_path: Path) -> None:
    record = recorded(keyed(client, "unknown-key"))
    (tmp_path / "key_auth.py").write_text(KEY_AUTH.replace("if not sum(", "if False and sum("))
    with Client([tmp_path], raise_errors=False) as changed:
        assert str(changed.replay(record).differences[0]) == "outcome: stop -> rewrite"


def with_token(client: Client) -> Result:
    key = "a secret of no less than 32 bytes"
    token = jwt.encode({"sub": "ali", "aud": "api", "iss": "me", "exp": 4_000_000_000}, key)
    entry = ("jwt-auth", {"algorithm": "HS256", "key": key, "audience": "api", "issuer": "me"})
    return client.get("/", headers={"authorization": f"Bearer {token}"}, plugins=[entry])


def test_a_token_cannot_be_verified_without_secrets(client: Client) -> None:
    """A digest is not a valid token, so the refusal says nothing about the plugin."""
    with pytest.raises(NotComparable, match=r"record\.redaction: false"):
        client.replay(recorded(with_token(client)))


def test_a_token_is_verified_if_secrets_are_recorded(client: Client) -> None:
    assert client.replay(recorded(with_token(client), RecordMaker(redacts=False))).differences == []


def test_a_secret_that_a_plugin_makes_is_equal_to_any_text(tmp_path: Path) -> None:
    """Its digest was made with another key, so it can't be compared."""
    source = """
    def on_request(self, request):
        request.headers["authorization"] = "Bearer of-the-plugin"
"""
    record = record_of(tmp_path, source)

    with pytest.MonkeyPatch.context() as patch, client_of(tmp_path / "before") as client:
        patch.setattr(redaction, "_KEY", b"of another process")
        assert client.replay(record).differences == []


URLS = """
    def on_request(self, request):
        request.headers["x-back"] = "https://x/?a=%2f&token=made-by-the-plugin&from=" + request.headers["referer"]
        request.headers["x-state"] = '{"a": 1,  "inner": "{\\\\"token\\\\":  \\\\"made-by-the-plugin\\\\"}"}'
        request.args["next"] = "https%3a%2f%2fx%2f%3fpassword%3dmade-by-the-plugin"
"""


def test_secrets_in_urls_and_in_strings_of_json(tmp_path: Path) -> None:
    """Nothing else in the text of a URL changes when it is redacted, and JSON is compared as JSON."""
    headers = {"referer": "https://user:correct-horse@x/?access_token=correct-horse"}
    call = record_of(tmp_path, URLS, headers)
    assert "made-by-the-plugin" not in str(call)
    assert "correct-horse" not in str(call)

    with client_of(tmp_path / "after", say=URLS) as client:
        assert client.replay(call).differences == []
    with client_of(tmp_path / "later", say=URLS.replace("a=%2f", "a=%2F")) as client:
        assert [difference.name for difference in client.replay(call).differences] == ["x-back", "x-back"]


def test_secrets_are_not_in_differences(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    source = BEFORE.replace(
        'request.args["page"]', 'request.headers["authorization"] = request.path = "/planted-secret"; request.args["page"]'
    )
    with client_of(tmp_path / "after", say=source) as client:
        found = [str(difference) for difference in client.replay(record).differences]

    assert any("authorization" in line for line in found)
    assert "planted-secret" not in repr(found)


def test_a_much_slower_call_is_reported_apart(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    fast = RecordedCall(replace(record.call, duration_s=0.0), record.configuration)
    slow = BEFORE.replace("request.args", "import time; time.sleep(0.01); request.args")
    with client_of(tmp_path / "after", say=slow) as client:
        result = client.replay(fast)

    assert result.differences == []
    assert result.slower is not None
    assert result.slower[1] > 0.005


COUNTS = """
    def on_request(self, request):
        metadata = request.metadata()
        metadata["count"] = metadata.get("count", 0) + 1

    def on_response(self, response):
        response.headers["x-count"] = str(response.metadata().get("count"))
        response.headers["x-known"] = str(response.metadata().get("token") == "redacted-0123456789abcdef")
"""


def test_a_replay_finds_the_recorded_metadata(tmp_path: Path) -> None:
    """Each phase on its own, and in any order."""
    with client_of(tmp_path / "before", say=COUNTS) as client:
        first = client.get("/", plugins=["say"], metadata={"count": 4})
        last = client.respond(200, plugins=["say"], of=first)
        records = [recorded(result) for result in (last, first, last)]
    with client_of(tmp_path / "after", say=COUNTS) as client:
        results = [client.replay(record) for record in records]

    assert [result.differences for result in results] == [[], [], []]
    assert results[0].response.headers["x-count"] == "5"


def test_other_metadata_is_a_difference(tmp_path: Path) -> None:
    with client_of(tmp_path / "before", say=COUNTS) as client:
        record = recorded(client.get("/", plugins=["say"], metadata={"count": 4}))
    with client_of(tmp_path / "after", say=COUNTS.replace("+ 1", "+ 2")) as client:
        found = client.replay(record).differences

    assert [str(difference) for difference in found] == ["say: edit of metadata count: 5 -> 6"]


def test_a_record_with_a_part_of_the_metadata(tmp_path: Path) -> None:
    with client_of(tmp_path, say=COUNTS) as client:
        result = client.respond(200, plugins=["say"], metadata={"count": "x" * 100})
        assert result._trace is not None
        record = RecordMaker(body_limit=10).make(result._trace)
        with pytest.raises(NotComparable, match="only the beginning of the metadata"):
            client.replay(record, plugins=["say"])
