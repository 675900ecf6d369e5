# SPDX-License-Identifier: Apache-2.0
"""What docs/guides/trace.md recommends, to keep the query out of the spans of httpx."""

from typing import Any

from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor


def remove_query(span: Any, request: Any) -> None:
    """Replace the URL of a span by the URL without its query. Both names are set, because they depend on the release."""
    if span.is_recording():
        url = str(request.url).partition("?")[0]
        span.set_attributes({"http.url": url, "url.full": url})


async def remove_query_async(span: Any, request: Any) -> None:
    """Same as `remove_query`, but for `httpx.AsyncClient`."""
    remove_query(span, request)


HTTPXClientInstrumentor().instrument(request_hook=remove_query, async_request_hook=remove_query_async)
