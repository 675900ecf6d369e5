# SPDX-License-Identifier: Apache-2.0
"""The HTTP methods as methods of the test client, each with an async variant."""

from typing import Unpack

from apisix.testing.options import RequestOptions
from apisix.testing.results.result import Result


class Verbs:
    """One method for each HTTP method. All of them accept the arguments of `request`."""

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a client's request through plugins."""
        raise NotImplementedError

    async def arequest(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Same as `request`, but for async tests."""
        raise NotImplementedError

    def get(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a GET request. See `request`."""
        __tracebackhide__ = True
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a HEAD request. See `request`."""
        __tracebackhide__ = True
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send an OPTIONS request. See `request`."""
        __tracebackhide__ = True
        return self.request("OPTIONS", url, **options)

    def post(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a POST request. See `request`."""
        __tracebackhide__ = True
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a PUT request. See `request`."""
        __tracebackhide__ = True
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a PATCH request. See `request`."""
        __tracebackhide__ = True
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a DELETE request. See `request`."""
        __tracebackhide__ = True
        return self.request("DELETE", url, **options)

    async def aget(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a GET request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("GET", url, **options)

    async def ahead(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a HEAD request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("HEAD", url, **options)

    async def aoptions(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send an OPTIONS request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("OPTIONS", url, **options)

    async def apost(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a POST request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("POST", url, **options)

    async def aput(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a PUT request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("PUT", url, **options)

    async def apatch(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a PATCH request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("PATCH", url, **options)

    async def adelete(self, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Send a DELETE request in an async test. See `request`."""
        __tracebackhide__ = True
        return await self.arequest("DELETE", url, **options)
