# SPDX-License-Identifier: Apache-2.0
"""The URL of the setting state.url."""

import pytest

from apisix.runner.state.redis_url import RedisUrl, read_url

SECRET = "pa55word"  # noqa: S105  # it must not be in any message


def parts(
    scheme: str,
    *addresses: tuple[str, int],
    path: str = "",
    service: str = "",
    database: int = 0,
    user: dict[str, str] | None = None,
    sentinel_user: dict[str, str] | None = None,
    tls: dict[str, object] | None = None,
) -> RedisUrl:
    """Return the parts of a URL, with the defaults of those that are not given."""
    return RedisUrl(scheme, addresses, path, service, database, user or {}, sentinel_user or {}, tls or {})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", parts("redis", ("localhost", 6379))),
        ("redis://10.0.0.1:7000/3", parts("redis", ("10.0.0.1", 7000), database=3)),
        ("redis://[::1]:7000", parts("redis", ("::1", 7000))),
        ("redis://:a%2Fb%40@h", parts("redis", ("h", 6379), user={"password": "a/b@"})),
        ("redis://gateway:b%3Ac@h", parts("redis", ("h", 6379), user={"username": "gateway", "password": "b:c"})),
        ("rediss://h", parts("rediss", ("h", 6379), tls={"ssl": True})),
        (
            "rediss://h?ssl_ca_certs=/etc/ca%20x.pem&ssl_check_hostname=false",
            parts("rediss", ("h", 6379), tls={"ssl": True, "ssl_ca_certs": "/etc/ca x.pem", "ssl_check_hostname": False}),
        ),
        ("unix:///run/redis.sock", parts("unix", path="/run/redis.sock")),
        ("unix://u:p@/run/redis.sock?db=2", parts("unix", path="/run/redis.sock", database=2, user={"username": "u", "password": "p"})),
        (
            "sentinel://:p@a,b:1,[::2]:3/main/4?sentinel_password=s&tls=true",
            parts(
                "sentinel",
                ("a", 26379),
                ("b", 1),
                ("::2", 3),
                service="main",
                database=4,
                user={"password": "p"},
                sentinel_user={"password": "s"},
                tls={"ssl": True},
            ),
        ),
        ("cluster://a,b:7001", parts("cluster", ("a", 6379), ("b", 7001))),
        ("cluster://a?tls=true&ssl_certfile=c", parts("cluster", ("a", 6379), tls={"ssl": True, "ssl_certfile": "c"})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_url(url: str, expected: RedisUrl) -> None:
    """Each form is split into its parts, and percent-encoded characters are decoded."""
    assert read_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (SECRET, "must begin with one of redis://"),
        (f"http://{SECRET}@h", "must begin with one of redis://"),
        ("redis://", "must have an address as in redis://localhost:6379"),
        (f"redis://user:{SECRET}/@h", "must have an address"),
        (f"redis://user:1/{SECRET}@h", "must have an address|must be a number"),
        (f"redis://user:{SECRET}#@h", "must not have a #"),
        (f"redis://user:{SECRET}[@h", "is not a URL"),
        (f"redis://h/{SECRET}", "database must be a number"),
        (f"redis://u:1?{SECRET}@h", "option that is not one of: none are allowed"),
        ("redis://h?retry_on_timeout=true", "option that is not one of"),
        ("rediss://h?ssl_cert_reqs=none", "option that is not one of: ssl_ca_certs"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname must be true or false"),
        ("redis://a,b", "must have one address"),
        ("redis://h:0", "must have an address"),
        ("redis://h:65536", "must have an address"),
        ("redis://h:x", "must have an address"),
        ("unix://", "must have an absolute path"),
        ("unix:///a?db=x", "database must be a number"),
        ("sentinel://a:1", "must have the name of a service"),
        ("sentinel://a:1/main?ssl_ca_certs=x", "must also have tls=true"),
        ("cluster://a/1", "must not have a database"),
        ("cluster://", "must have an address, and further ones after commas,"),
    ],
)
def test_url_of_another_form(url: str, message: str) -> None:
    """The message says what is expected. It does not contain what may be a password."""
    with pytest.raises(ValueError, match=message) as raised:
        read_url(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_repr_has_no_password() -> None:
    """A traceback that shows variables does not show the password."""
    assert repr(read_url(f"redis://:{SECRET}@h")) == "<RedisUrl redis>"
