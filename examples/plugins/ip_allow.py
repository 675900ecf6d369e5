# SPDX-License-Identifier: Apache-2.0
"""
Allow networks and countries. Behind a CDN or a load balancer, use the client's address that it forwards.

When to use it: for internal APIs, partners with fixed addresses, and countries that you may not serve. The country comes from
a header of your CDN, such as cf-ipcountry. geo-allow finds it in a database instead. APISIX has the plugin ip-restriction
for networks only.

Task: Authorization
Keywords: IP allow list, IP whitelist, CIDR, geo blocking, country, GeoIP, cf-ipcountry, X-Forwarded-For, trusted proxy
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

from apisix import Plugin, Reply, Request

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class IpAllowConfig(msgspec.Struct, frozen=True):
    """The networks and countries that are allowed, and the proxies whose headers are trusted. Without `countries`, all are allowed."""

    networks: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    countries: frozenset[str] = frozenset()
    trusted_proxies: tuple[str, ...] = ()
    country_header: str = "cf-ipcountry"

    def __post_init__(self) -> None:
        for text in (*self.networks, *self.trusted_proxies):
            ip_network(text)  # raises ValueError, which refuses the route, for example if bits of the host are set
        if self.countries and not self.trusted_proxies:
            raise ValueError("countries needs trusted_proxies: without them, clients can choose their country")


class IpAllow(Plugin[IpAllowConfig]):
    """Refuse requests of other networks and countries."""

    def __init__(self) -> None:
        self._networks = [ip_network(text) for text in self.config.networks]
        self._trusted = [ip_network(text) for text in self.config.trusted_proxies]

    def on_request(self, request: Request) -> Reply | None:
        peer = _address(request.remote_addr)
        client = self._client(peer, request) if _is_in(peer, self._trusted) else peer
        if client is None or not _is_in(client, self._networks):
            return Reply(403, json={"error": "not allowed from this address"})
        if self.config.countries:
            found = request.headers.getall(self.config.country_header, [])
            if not _is_in(peer, self._trusted) or len(found) != 1 or found[0].upper() not in self.config.countries:
                return Reply(451, json={"error": "not available in this country"})
        return None

    def _client(self, peer: Address | None, request: Request) -> Address | None:
        """Return the last address that is not a trusted proxy. Those to the left of it were sent by the client, and can be invented."""
        if len(request.headers) >= 100:  # the gateway sends no more of them, so x-forwarded-for could be missing
            return None
        forwarded = ",".join(request.headers.getall("x-forwarded-for", []))
        for text in reversed(forwarded.split(",") if forwarded else []):
            peer = _address(text.strip())
            if not _is_in(peer, self._trusted):
                break
        return peer


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # ::ffff:10.0.0.1 is 10.0.0.1


def _is_in(address: Address | None, networks: list[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
