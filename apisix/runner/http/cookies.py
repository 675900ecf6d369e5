# SPDX-License-Identifier: Apache-2.0
"""Cookies, as names and values. Source: RFC 6265, 4.1.1, 4.2.1 and 5.2."""

from collections.abc import Iterable

from multidict import MultiDict, MultiDictProxy


def request_cookies(headers: Iterable[str]) -> MultiDictProxy[str]:
    """Return the cookies of a request, by the values of its `cookie` headers. What has no `=` is left out."""
    return _cookies(pair for header in headers for pair in header.split(";"))


def response_cookies(headers: Iterable[str]) -> MultiDictProxy[str]:
    """Return the cookies that a response sets, without their attributes, by the values of its `set-cookie` headers."""
    return _cookies(header.partition(";")[0] for header in headers)


def _cookies(pairs: Iterable[str]) -> MultiDictProxy[str]:
    """Read `name=value` pairs. A value keeps its quotes, as in the gateway's variables `cookie_*`."""
    cookies: MultiDict[str] = MultiDict()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            cookies.add(name.strip(), value.strip())
    return MultiDictProxy(cookies)
