# SPDX-License-Identifier: Apache-2.0
"""plugins/sigv4_sign.py."""

import hashlib
from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest

from apisix.testing import Client, Result

# The credentials and the first two signatures are those of the examples in Amazon's documentation of S3. The others are those of botocore.
CONFIG = {
    "host": "examplebucket.s3.amazonaws.com",
    "region": "us-east-1",
    "access_key": "AKIAIOSFODNN7EXAMPLE",
    "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
NAMES = "host;x-amz-content-sha256;x-amz-date"


class Clock(datetime):
    """A clock that does not advance."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":
        """Return the time of the examples."""
        return cls(2013, 5, 24, tzinfo=tz)


@pytest.fixture(autouse=True)
def clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the plugin's clock."""
    monkeypatch.setitem(vars(client.plugin("sigv4-sign"))["on_request"].__globals__, "datetime", Clock)


def send(client: Client, method: str, url: str, headers: Any = None, body: bytes = b"", **config: Any) -> Result:
    """Send a request."""
    return client.request(method, url, headers=headers, body=body, plugins=[("sigv4-sign", {**CONFIG, **config})])


def authorization(signature: str, scope: str = "us-east-1/s3", names: str = NAMES) -> str:
    """Return the header for a signature."""
    credential = f"Credential=AKIAIOSFODNN7EXAMPLE/20130524/{scope}/aws4_request"
    return f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ("/?prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_published_examples(client: Client, url: str, signature: str) -> None:
    """The signatures are those that Amazon has published."""
    headers = send(client, "GET", url).upstream.headers

    assert headers["authorization"] == authorization(signature)
    assert headers["x-amz-date"] == "20130524T000000Z"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"").hexdigest()


def test_encoding(client: Client) -> None:
    """Special characters, arguments without a value, a body and the token of a temporary login are signed."""
    url = "/a%20b/%C3%A9~%2B.txt?x=%2F&a=b%20c&a="
    headers = send(client, "PUT", url, body=b"hello", security_token="tok/en==").upstream.headers  # noqa: S106  # it is not a password
    expected = "3c60de72d6a514dc1d0f4588ba56821fb4d6eae7da945b1b5e4b59a90be4c1b7"

    assert headers["authorization"] == authorization(expected, names=f"{NAMES};x-amz-security-token")
    assert headers["x-amz-security-token"] == "tok/en=="


def test_order_of_arguments(client: Client) -> None:
    """Arguments are sorted by their names, and not by the text of the query, in which "=" is greater than "-"."""
    headers = send(client, "GET", "/?a-b=1&a=2").upstream.headers

    assert headers["authorization"] == authorization("6db62b462e19a8f703fc26b3ea60639392275ec6108e6ca9b11acf1491cf4fa3")


def test_other_services(client: Client) -> None:
    """For services other than S3, the path is encoded twice."""
    config = {"host": "lambda.eu-west-1.amazonaws.com", "region": "eu-west-1", "service": "lambda"}
    url = "/2015-03-31/functions/f%20%C3%A9/invocations?Qualifier=1"
    headers = send(client, "POST", url, body=b'{"a": 1}', **config).upstream.headers

    assert headers["authorization"] == authorization("c5840305d228e13be10d5353dc37cbae2377933f9c4a2b3bd0e92d0ab6c613a1", "eu-west-1/lambda")


def test_headers_of_the_client(client: Client) -> None:
    """Credentials and headers for AWS that the client sends do not reach the upstream."""
    sent = {"Authorization": "Bearer x", "X-Amz-Acl": "public-read", "x-amz-security-token": "x", "accept": "text/html"}
    headers = send(client, "GET", "/?lifecycle", sent).upstream.headers

    assert {name for name in headers if name.startswith("x-amz-")} == {"x-amz-content-sha256", "x-amz-date"}
    assert headers.getall("authorization") == [authorization("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")]
    assert headers["accept"] == "text/html"


def test_bytes_that_are_not_text(client: Client) -> None:
    """A path and arguments with any bytes are signed."""
    assert not send(client, "GET", "/%FF?%FE=%FD").stopped


def test_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is that of the clock, in UTC."""
    monkeypatch.setitem(vars(client.plugin("sigv4-sign"))["on_request"].__globals__, "datetime", datetime)
    before = datetime.now(UTC).replace(microsecond=0)
    sent_at = datetime.strptime(send(client, "GET", "/").upstream.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")

    assert before <= sent_at <= datetime.now(UTC)


def test_long_body(client: Client) -> None:
    """A long body is refused."""
    assert send(client, "PUT", "/a", body=b"x" * 11, max_bytes=10).reply.status == 413
