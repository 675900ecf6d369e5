# SPDX-License-Identifier: Apache-2.0
"""
Read the URL of the setting `state.url`.

- `redis://[user:password@]host[:port][/database]`: a server. `rediss://` is the same with TLS.
- `unix://[user:password@]/path[?db=database]`: a server on this machine.
- `sentinel://[user:password@]host[:port][,host[:port]...]/service[/database]`: the server that sentinels choose.
- `cluster://[user:password@]host[:port][,host[:port]...]`: a cluster, of which some nodes are named.

The user and the password are those of the servers. Special characters in them are percent-encoded. Options follow as in
`?tls=true&ssl_ca_certs=/etc/ca.pem`.

No message contains a part of the URL that may be a password. redis-py reads URLs too, but it takes any of its options from them, for
example to repeat commands.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix", "sentinel", "cluster")

_TEXTS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ciphers")
_SENTINEL_USER: Final = ("sentinel_username", "sentinel_password")
_SWITCHES: Final = {"true": True, "false": False}
_OPTIONS: Final = {
    "redis": (),
    "rediss": (*_TEXTS, "ssl_check_hostname"),
    "unix": ("db",),
    "sentinel": ("tls", *_TEXTS, "ssl_check_hostname", *_SENTINEL_USER),
    "cluster": ("tls", *_TEXTS, "ssl_check_hostname"),
}
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:@/]+))(?::([0-9]{1,5}))?")
_PORTS: Final = {"sentinel": 26379}
_PORT: Final = 6379
_ADVICE: Final = "Percent-encode special characters of the user and the password, for example %2F for / and %40 for @"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """
    The parts of a URL.

    Attributes:
        scheme: one of `SCHEMES`.
        addresses: hosts and ports: of the server, of sentinels, or of nodes of the cluster. Empty for a unix socket.
        path: the unix socket, or "".
        service: the name by which sentinels know the server, or "".
        database: the number of the database.
        user: `username` and `password` for the servers, as far as given.
        sentinel_user: the same for sentinels.
        tls: options for TLS, as redis-py names them. Empty without TLS.
    """

    scheme: str
    addresses: tuple[tuple[str, int], ...]
    path: str
    service: str
    database: int
    user: dict[str, str]
    sentinel_user: dict[str, str]
    tls: dict[str, object]

    def __repr__(self) -> str:
        return f"<RedisUrl {self.scheme}>"  # without the password


def read_url(url: str) -> RedisUrl:
    """
    Return the parts of a URL.

    Raises: ValueError: the URL has another form. The message is the end of a sentence, and does not contain the URL.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in SCHEMES:
        raise ValueError(f"it must begin with one of {', '.join(each + '://' for each in SCHEMES)}")
    try:
        parts = urlsplit(url)
    except ValueError:  # the message may have a part of the password
        raise ValueError(f"it is not a URL. {_ADVICE}") from None
    if parts.fragment:
        raise ValueError(f"it must not have a #. {_ADVICE}")
    account, _, hosts = parts.netloc.rpartition("@")
    username, _, password = account.partition(":")
    options = _options(parts)
    addresses = () if scheme == "unix" else tuple(_address(scheme, host) for host in hosts.split(","))
    if scheme in ("redis", "rediss") and len(addresses) > 1:
        raise ValueError("it must have one address. Use sentinel:// or cluster:// for several")
    path, service, database = _path(parts, options)
    return RedisUrl(
        scheme=scheme,
        addresses=addresses,
        path=path,
        service=service,
        database=database,
        user={name: unquote(value) for name, value in (("username", username), ("password", password)) if value},
        sentinel_user={name.removeprefix("sentinel_"): options[name] for name in _SENTINEL_USER if name in options},
        tls=_tls(scheme, options),
    )


def _options(parts: SplitResult) -> dict[str, str]:
    allowed = _OPTIONS[parts.scheme]
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            # The name may be a part of a password with a question mark.
            raise ValueError(f"it has an option that is not one of: {', '.join(allowed) or 'none are allowed'}. {_ADVICE}")
        options[name] = value
    return options


def _address(scheme: str, host: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(host)
    port = int(found[3] or _PORTS.get(scheme, _PORT)) if found else 0
    if found is None or not 0 < port < 65536:
        several = ", and further ones after commas," if scheme in ("sentinel", "cluster") else ""
        raise ValueError(f"it must have an address{several} as in {scheme}://localhost:{_PORTS.get(scheme, _PORT)}. {_ADVICE}")
    return unquote(found[1] or found[2]), port


def _path(parts: SplitResult, options: dict[str, str]) -> tuple[str, str, int]:
    """Return the path of a unix socket, the name of a service, and the number of the database."""
    path, service, database = "", "", ""
    if parts.scheme == "unix":
        path, database = unquote(parts.path), options.get("db", "")
        if not path.strip("/"):
            raise ValueError("it must have an absolute path, as in unix:///run/redis/redis.sock")
    elif parts.scheme == "sentinel":
        service, _, database = parts.path.removeprefix("/").partition("/")
        if not service:
            raise ValueError("it must have the name of a service, as in sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster")
    else:
        database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdecimal() and len(database) < 10):
        raise ValueError(f"its database must be a number. {_ADVICE}")
    if parts.scheme == "cluster" and int(database or 0):
        raise ValueError("it must not have a database, because a cluster has only one")
    return path, unquote(service), int(database or 0)


def _tls(scheme: str, options: dict[str, str]) -> dict[str, object]:
    enabled = scheme == "rediss" or _switch(options, "tls", default=False)
    given: dict[str, object] = {name: options[name] for name in _TEXTS if name in options}
    if "ssl_check_hostname" in options:
        given["ssl_check_hostname"] = _switch(options, "ssl_check_hostname", default=True)
    if given and not enabled:
        raise ValueError("it has options for TLS, and must also have tls=true")
    return {"ssl": True, **given} if enabled else {}


def _switch(options: dict[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name)
    if text is None:
        return default
    if text not in _SWITCHES:
        raise ValueError(f"its option {name} must be true or false")
    return _SWITCHES[text]
