# SPDX-License-Identifier: Apache-2.0
"""Read the names and values of cookies from headers. Source: RFC 6265, 4.1.1, 4.2.1 and 5.2."""

from collections.abc import Iterable

from multidict import MultiDict, MultiDictProxy


def request_cookies(headers: Iterable[str]) -> MultiDictProxy[str]:
    """Return the cookies in the values of `cookie` headers. Parts without `=` are ignored."""
    return _cookies(pair for header in headers for pair in header.split(";"))


def response_cookies(headers: Iterable[str]) -> MultiDictProxy[str]:
    """Return the cookies in the values of `set-cookie` headers, without their attributes."""
    return _cookies(header.partition(";")[0] for header in headers)


def _cookies(pairs: Iterable[str]) -> MultiDictProxy[str]:
    """Read pairs of the form `name=value`. Quotes remain part of a value, as in the gateway's variables `cookie_*`."""
    cookies: MultiDict[str] = MultiDict()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            cookies.add(name.strip(), value.strip())
    return MultiDictProxy(cookies)
