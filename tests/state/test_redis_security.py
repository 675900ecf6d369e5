# SPDX-License-Identifier: Apache-2.0
"""Users with few rights, and TLS. docs/guides/redis.md names the commands that the runner needs."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.state.redis_server import RedisBackend
from tests.state.redis_process import Setup, running, running_cluster, running_sentinels
from tests.state.test_outage import ASYNC, PLAIN

pytestmark = pytest.mark.process

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "redis.md"
PASSWORD = "s3cret"  # noqa: S105  # that of the guide
ANY_RULE = re.compile(r"^ACL SETUSER .*$", re.MULTILINE)


def rules(*further: str) -> list[str]:
    """Return the arguments of the command in the guide, with those that a cluster needs as well."""
    (line,) = ANY_RULE.findall(GUIDE.read_text(encoding="utf-8"))
    return [*line.split(), *further]


def commands_of_a_cluster() -> list[str]:
    """Return what the guide adds for a cluster."""
    (found,) = re.findall(r"A cluster also needs `([^`]*)`", GUIDE.read_text(encoding="utf-8"))
    return str(found).split()


async def try_all(url: str) -> None:
    """Use each operation of a store, plain and async."""
    backend = RedisBackend(url, 2, 30.0)
    store = Store("limits", _backend=lambda: backend)
    for name in PLAIN:
        PLAIN[name](store)
        await ASYNC[name](store)
    lease = await store.alock("job", 10)
    assert lease is not None
    assert await lease.arelease()
    await backend.aclose()


async def test_user_with_the_rights_of_the_guide() -> None:
    """A user with these rights can do what the runner needs. It can neither use other commands nor other keys."""
    with running(on_port=True) as setup:
        (server,) = setup.servers
        with server.client() as client:
            client.execute_command(*rules())
        url = f"redis://gateway:{PASSWORD}@127.0.0.1:{server.port}"
        await try_all(f"{url}/1")
        with server.client() as client:
            client.execute_command("AUTH", "gateway", PASSWORD)
            refused = []
            for command in (("FLUSHALL",), ("KEYS", "*"), ("GET", "other"), ("CONFIG", "GET", "*"), ("CLIENT", "LIST")):
                with pytest.raises(Exception, match="permission") as raised:
                    client.execute_command(*command)
                refused.append(type(raised.value).__name__)

    assert refused == ["NoPermissionError"] * 5


async def test_user_of_a_cluster_with_the_rights_of_the_guide() -> None:
    """A cluster needs a few more commands."""
    with running_cluster() as setup:
        for server in setup.servers:
            with server.client() as client:
                client.execute_command(*rules(*commands_of_a_cluster()))
                client.execute_command("ACL", "SETUSER", "default", "off")
        await try_all(setup.url.replace("cluster://", f"cluster://gateway:{PASSWORD}@"))


async def test_user_of_sentinels_with_the_rights_of_the_guide() -> None:
    """The sentinels have a user of their own."""
    with running_sentinels() as setup:
        for server in setup.servers:
            with server.client() as client:
                client.execute_command(*rules())
        for sentinel in setup.sentinels:
            with sentinel.client() as client:
                client.execute_command("ACL", "SETUSER", "reader", "on", ">x", "-@all", "+sentinel|masters")
                client.execute_command("ACL", "SETUSER", "default", "off")
        url = setup.url.replace("sentinel://", f"sentinel://gateway:{PASSWORD}@")
        await try_all(f"{url}?sentinel_username=reader&sentinel_password=x")


@pytest.mark.parametrize("account", ["", ":wrong@", "gateway:wrong@"])
async def test_wrong_password(account: str) -> None:
    """The message names the problem, but not the password."""
    with running(password=PASSWORD, on_port=True) as setup:
        backend = RedisBackend(f"redis://{account}127.0.0.1:{setup.servers[0].port}", 2, 30.0)
        with pytest.raises(StoreError, match=r"[Aa]uth|password") as raised:
            backend.get([b"x"])
        with pytest.raises(StoreError, match=r"[Aa]uth|password") as araised:
            await backend.aget([b"x"])
        await backend.aclose()
    assert "wrong" not in str(raised.value) + str(araised.value)


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificate of an authority, and one of a server at 127.0.0.1 that it has signed."""
    directory = tmp_path_factory.mktemp("certificates")
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    now = datetime.now(UTC)

    def builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    authority = builder("authority", authority_key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    server = builder("server", server_key).add_extension(names, critical=False)
    for name, unsigned in (("authority", authority), ("server", server)):
        signed = unsigned.sign(authority_key, hashes.SHA256())
        (directory / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = server_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "server.key").write_bytes(private)
    return directory


@pytest.fixture(scope="module")
def tls_server(certificates: Path) -> Iterator[Setup]:
    """A server that accepts TLS only."""
    files = {"cert": "server.pem", "key": "server.key", "ca-cert": "authority.pem"}
    options = [part for name, file in files.items() for part in (f"--tls-{name}-file", str(certificates / file))]
    with running(on_port=True, tls=(*options, "--tls-auth-clients", "optional")) as setup:
        yield setup


async def test_tls(tls_server: Setup, certificates: Path) -> None:
    """Each operation works over TLS, with and without a certificate of the client."""
    url = f"rediss://127.0.0.1:{tls_server.servers[0].port}?ssl_ca_certs={certificates}/authority.pem"
    tls_server.clear()
    await try_all(url)
    tls_server.clear()
    await try_all(f"{url}&ssl_certfile={certificates}/server.pem&ssl_keyfile={certificates}/server.key")


async def test_certificate_that_is_not_trusted(tls_server: Setup) -> None:
    """A server whose authority is not trusted is not used."""
    backend = RedisBackend(f"rediss://127.0.0.1:{tls_server.servers[0].port}", 2, 30.0)
    with pytest.raises(StoreError, match="certificate verify failed"):
        backend.get([b"x"])
    with pytest.raises(StoreError, match="certificate verify failed"):
        await backend.aget([b"x"])


async def test_certificate_of_another_host(tls_server: Setup, certificates: Path) -> None:
    """The host name is checked, unless the URL says otherwise."""
    url = f"rediss://localhost:{tls_server.servers[0].port}?ssl_ca_certs={certificates}/authority.pem"
    backend = RedisBackend(url, 2, 30.0)
    with pytest.raises(StoreError, match=r"[Hh]ostname mismatch"):
        backend.get([b"x"])
    with pytest.raises(StoreError, match=r"[Hh]ostname mismatch"):
        await backend.aget([b"x"])
    tls_server.clear()
    await try_all(f"{url}&ssl_check_hostname=false")
