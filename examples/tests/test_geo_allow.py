# SPDX-License-Identifier: Apache-2.0
"""plugins/geo_allow.py. Its database is written here: `python -m examples.tests.test_geo_allow` writes examples/geo.mmdb."""

import asyncio
import os
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from apisix.testing import Client

EXAMPLE = Path(__file__).parent.parent / "geo.mmdb"
# Networks for documentation (RFC 5737, RFC 3849) and this machine, with countries that were chosen for this file.
COUNTRIES = {"127.0.0.0/8": "NZ", "192.0.2.0/24": "NZ", "198.51.100.0/24": "AU", "2001:db8::/32": "NZ"}


def write(path: Path, countries: dict[str, str], version: int = 6) -> None:
    """Write a database. A country "" means a record without a country."""
    writer = MMDBWriter(version, ipv4_compatible=version == 6, database_type="Example-Country", description="An example")
    for network, country in countries.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": country}} if country else {"registered_country": {}})
    writer.to_db_file(str(path))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return the path of a database."""
    path = tmp_path / "geo.mmdb"
    write(path, COUNTRIES | {"203.0.113.0/24": ""})
    return path


def status_of(client: Client, database: Path, address: str, **config: Any) -> int | None:
    """Return the status of the reply, None if the upstream gets the request."""
    plugins = [("geo-allow", {"database": str(database), "countries": ["NZ"], **config})]
    result = client.get("/", remote_addr=address, plugins=plugins, raise_errors=False)
    return result.reply.status if result.stopped else None


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("192.0.2.7", None),
        ("198.51.100.7", 451),
        ("203.0.113.7", 451),
        ("10.0.0.1", 451),
        ("2001:db8::7", None),
        ("2001:db9::7", 451),
        ("::ffff:192.0.2.7", None),
        ("::ffff:198.51.100.7", 451),
    ],
)
def test_countries(client: Client, database: Path, address: str, status: int | None) -> None:
    """Only addresses of the countries are allowed. Those without a country are not."""
    assert status_of(client, database, address) == status


def test_only_ipv4(client: Client, tmp_path: Path) -> None:
    """If the database has no IPv6 addresses, they are refused."""
    write(tmp_path / "4.mmdb", {"192.0.2.0/24": "NZ"}, version=4)

    assert status_of(client, tmp_path / "4.mmdb", "192.0.2.7") is None
    assert status_of(client, tmp_path / "4.mmdb", "2001:db8::7") == 451


@pytest.mark.parametrize("content", [None, b"", b"not a database"])
def test_no_database(client: Client, tmp_path: Path, content: bytes | None) -> None:
    """Without a database, requests are refused."""
    if content is not None:
        (tmp_path / "geo.mmdb").write_bytes(content)

    assert status_of(client, tmp_path / "geo.mmdb", "192.0.2.7") == 503


@pytest.mark.parametrize("countries", [[], ["nz"], ["New Zealand"]])
def test_bad_configuration(client: Client, database: Path, countries: list[str]) -> None:
    """A route without countries, or with names that no database has, is refused."""
    assert status_of(client, database, "192.0.2.7", countries=countries) == 503


def test_new_database(client: Client, database: Path, tmp_path: Path) -> None:
    """A new file is opened in the background. If it can't be read, the old one is used."""
    cls: Any = client.plugin("geo-allow")
    plugin = cls()
    plugin.config = cls.__orig_bases__[0].__args__[0](str(database), frozenset({"NZ"}), reload_s=0.001)
    write(tmp_path / "new.mmdb", {"192.0.2.0/24": "AU"})
    (tmp_path / "broken.mmdb").write_bytes(b"")

    async def scenario() -> None:
        await plugin.setup()
        os.replace(tmp_path / "new.mmdb", database)
        task = asyncio.create_task(plugin.background())
        async with asyncio.timeout(20):
            while plugin._country_of("192.0.2.7") != "AU":  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        os.replace(tmp_path / "broken.mmdb", database)
        with pytest.raises(maxminddb.InvalidDatabaseError):
            await asyncio.wait_for(task, 20)

    asyncio.run(scenario())

    assert plugin._country_of("192.0.2.7") == "AU"


def test_example() -> None:
    """The database of the route in apisix.yaml contains the countries above."""
    open_database: Any = vars(maxminddb)["open_database"]
    reader = open_database(EXAMPLE)

    assert {network.partition("/")[0]: reader.get(network.partition("/")[0]) for network in COUNTRIES} == {
        network.partition("/")[0]: {"country": {"iso_code": country}} for network, country in COUNTRIES.items()
    }


if __name__ == "__main__":
    write(EXAMPLE, COUNTRIES)
