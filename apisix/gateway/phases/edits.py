# SPDX-License-Identifier: Apache-2.0
"""Apply a runner's reply to a request, in the gateway's order. Source: gateway contract, 5."""

from apisix.gateway.http import pages, uris
from apisix.gateway.http.headers import replace, set_all
from apisix.gateway.http.upstream import UpstreamFailed
from apisix.gateway.phases.exchange import Answer, Exchange, page_answer
from apisix.gateway.phases.quirks import Quirk
from apisix.runner.wire.messages import Rewrite, Stop

# Response headers that a Rewrite can't set, and that are not copied from an upstream's response in ext-plugin-post-resp.
# The runner has the same list (http/fields.py). It is not shared, so that an error in the runner's list shows here.
PROTECTED_RESPONSE_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "transfer-encoding",
        "location",
        "server",
        "www-authenticate",
        "content-encoding",
        "content-type",
        "content-location",
        "content-language",
    }
)


def apply_stop(exchange: Exchange, stop: Stop) -> Answer:
    """Return the answer for the client, with nginx's page if there is no body and the status is 300 or more."""
    set_all(exchange.response_headers, stop.headers)
    status = stop.status or 200
    if not stop.body and status >= 300:
        return page_answer(exchange, status)
    headers = exchange.response_headers
    finish_content_type(exchange, status)
    return Answer(status, headers, stop.body)


def finish_content_type(exchange: Exchange, status: int) -> None:
    """Set the content type as nginx does: the default if there is none, with a charset, and as the first header."""
    headers = exchange.response_headers
    if status == 204:
        headers.popall("content-type", None)
        return
    content_type = headers.get("content-type", pages.DEFAULT_TYPE)
    rest = [(name, value) for name, value in headers.items() if name.lower() != "content-type"]
    headers.clear()
    headers.add(
        "Content-Type", pages.with_charset(content_type, status, encoded=any("content-encoding" == name.lower() for name, _ in rest))
    )
    headers.extend(rest)


def read_client_body(exchange: Exchange) -> None:
    """
    Do what nginx does when it first reads the client's body.

    Raises: UpstreamFailed: a runner has set a content-length that is too long, and nginx would wait for more data.
    """
    missing = exchange.obey_length()
    if missing > 0:
        raise UpstreamFailed(
            408,
            f"a runner set content-length to {exchange.headers['content-length']}: on APISIX this call hangs for 60 s, waiting for "
            f"{missing} bytes more of the client's body",
        )


def apply_rewrite(exchange: Exchange, rewrite: Rewrite, quirks: frozenset[Quirk], args: uris.Args) -> None:
    """
    Apply the edits of a Rewrite to the request.

    Args: args: the arguments that were sent to the runner, to which its edits apply.
    """
    _apply_path(exchange, rewrite, quirks)
    for name, value in rewrite.headers:
        if Quirk.STALE_HEADERS in quirks and name != name.lower():
            exchange.stale_headers.setdefault(name.lower(), exchange.headers.getall(name, []))
        replace(exchange.headers, name, value)
        if name.lower() == "host":
            exchange.upstream_host = value or ""
    if rewrite.body and Quirk.BODY_IGNORED not in quirks:
        read_client_body(exchange)  # it uses the headers that were set above
        exchange.set_body(rewrite.body)
    set_all(
        exchange.response_headers, ((name, value) for name, value in rewrite.resp_headers if name.lower() not in PROTECTED_RESPONSE_HEADERS)
    )
    _apply_args(exchange, rewrite, args)


def _apply_path(exchange: Exchange, rewrite: Rewrite, quirks: frozenset[Quirk]) -> None:
    if rewrite.path is None:
        return
    exchange.upstream_uri = uris.escape_path(rewrite.path)
    if exchange.args and Quirk.PATH_DROPS_QUERY not in quirks:
        exchange.upstream_uri += f"?{exchange.args}"


def _apply_args(exchange: Exchange, rewrite: Rewrite, args: uris.Args) -> None:
    if not len(rewrite.args):
        return
    changed: set[str] = set()
    for name, value in rewrite.args:
        if value is None:
            args.pop(name, None)
        elif name in changed:
            args.setdefault(name, []).append(value)
        else:
            args[name] = [value]
            changed.add(name)
    query = uris.build_query(args)
    exchange.set_args(query)
    # Without a new path, `upstream_uri` is kept, so changed arguments are lost after proxy-rewrite (observed).
    if rewrite.path is not None:
        exchange.upstream_uri = uris.escape_path(rewrite.path) + (f"?{query}" if query else "")
