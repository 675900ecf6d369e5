# SPDX-License-Identifier: Apache-2.0
"""
Allow countries, by a database of MaxMind's format on this machine (`pip install maxminddb`).

When to use it: if you may not serve all countries, and no CDN sends the country in a header, as ip-allow expects it. The database is
for example GeoLite2-Country of MaxMind, or one of DB-IP or IPinfo; each has a licence of its own. A new file is opened within `reload_s`
of its arrival. Replace the file by renaming another one, as geoipupdate does, because the old one is in use. Addresses without a country,
such as private ones, are refused. Databases are not exact, and clients can use a VPN. Behind a proxy, let the gateway's plugin real-ip
find the client's address.

Task: Authorization
Keywords: GeoIP, GeoIP2, GeoLite2, MaxMind, mmdb, geo blocking, geofencing, country allow list, sanctions, DB-IP, IPinfo
"""

import asyncio
import os
from ipaddress import ip_address
from typing import Annotated, Any, cast

import maxminddb
import msgspec

from apisix import Plugin, Reply, Request

_MAXMINDDB: Any = maxminddb  # some of its types are not complete
Country = Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]


class GeoAllowConfig(msgspec.Struct, frozen=True):
    """The path of the database, and the ISO 3166 codes of the countries."""

    database: str
    countries: Annotated[frozenset[Country], msgspec.Meta(min_length=1)]
    reload_s: Annotated[float, msgspec.Meta(ge=1)] = 300.0


class GeoAllow(Plugin[GeoAllowConfig]):
    """Refuse requests of other countries."""

    async def setup(self) -> None:
        self._version: tuple[int, ...] = ()
        await self._open()  # if there is no database, calls are refused

    async def background(self) -> None:
        while True:
            await asyncio.sleep(self.config.reload_s)
            await self._open()  # if this fails, the old database is used, and the error is logged

    def on_request(self, request: Request) -> Reply | None:
        if self._country_of(request.remote_addr) not in self.config.countries:
            return Reply(451, json={"error": "not available in this country"})
        return None

    async def _open(self) -> None:
        stat = os.stat(self.config.database)
        version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if version != self._version:
            self._reader = await asyncio.to_thread(_MAXMINDDB.open_database, self.config.database)
            self._version = version

    def _country_of(self, text: str) -> str | None:
        try:
            address = ip_address(text)
            record = self._reader.get(getattr(address, "ipv4_mapped", None) or address)  # ::ffff:10.0.0.1 is 10.0.0.1
        except ValueError:  # no address, or an IPv6 address and a database for IPv4 only
            return None
        return cast(str | None, record.get("country", {}).get("iso_code")) if record else None
