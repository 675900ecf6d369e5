# SPDX-License-Identifier: Apache-2.0
"""Apply a runner's reply to a request, in the gateway's order. Source: gateway contract, 5."""

from collections.abc import Iterable

from multidict import CIMultiDict

from apisix.gateway.http import pages, uris
from apisix.gateway.http.answer import Answer, page_answer
from apisix.gateway.http.headers import replace, set_all
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.quirks import Quirk
from apisix.gateway.routing.upstream_client import UpstreamFailed
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


def invalid_stop(stop: Stop, quirks: frozenset[Quirk]) -> str | None:
    """Return why a Stop is an error for the emulated release, None if it is not."""
    if not stop.status and Quirk.STOP_NEEDS_A_STATUS in quirks:
        return "a Stop with status 0 is an error before APISIX 2.8"
    if any(value is None for _, value in stop.headers) and Quirk.STOP_NEEDS_VALUES in quirks:
        return "a header without a value in a Stop is an error before APISIX 2.8"
    return None


def apply_stop(context: RequestContext, stop: Stop, quirks: frozenset[Quirk] = frozenset()) -> Answer:
    """Return the answer for the client, with nginx's page if there is no body and the status is 300 or more."""
    set_all(context.response_headers, _as_sent(stop.headers, quirks))
    status = stop.status or 200
    if status in pages.CLOSES_CONNECTION:
        return Answer(status)
    if not stop.body and status >= 300:
        return page_answer(status, context.response_headers)
    finish_content_type(context, status)
    return not_modified(context, Answer(status, context.response_headers, stop.body))


def not_modified(context: RequestContext, answer: Answer) -> Answer:
    """
    Return a 304 instead of a 200 if the client's conditions say that it has the response already.

    nginx does this for responses that it does not proxy. Source: nginx, ngx_http_not_modified_filter_module.c.
    """
    given = context.headers.get("if-none-match"), context.headers.get("if-modified-since")
    etag, modified = answer.headers.get("etag"), answer.headers.get("last-modified")
    if answer.status != 200 or given == (None, None):
        return answer
    if given[1] is not None and given[1] != modified:
        return answer
    if given[0] is not None and given[0] != "*" and (etag is None or _weak(etag) not in map(_weak, given[0].split(","))):
        return answer
    kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in ("content-type", "content-length")]
    return Answer(304, CIMultiDict(kept))


def _weak(etag: str) -> str:
    return etag.strip().removeprefix("W/")


def finish_content_type(context: RequestContext, status: int) -> None:
    """Set the content type as nginx does: the default if there is none, with a charset, and as the first header."""
    headers = context.response_headers
    content_type = headers.get("content-type", "" if status in (204, 304) else pages.DEFAULT_TYPE)
    if status == 204 or not content_type:
        headers.popall("content-type", None)
        return
    rest = [(name, value) for name, value in headers.items() if name.lower() != "content-type"]
    headers.clear()
    headers.add("Content-Type", pages.with_charset(content_type, status))
    headers.extend(rest)


def read_client_body(context: RequestContext) -> None:
    """
    Do what nginx does when it first reads the client's body.

    Raises: UpstreamFailed: a runner has set a content-length that is too long, and nginx would wait for more data.
    """
    missing = context.obey_length()
    if missing > 0:
        raise UpstreamFailed(
            408,
            f"a runner set content-length to {context.headers['content-length']}: on APISIX this call hangs for 60 s, waiting for "
            f"{missing} bytes more of the client's body",
        )


def apply_rewrite(context: RequestContext, rewrite: Rewrite, quirks: frozenset[Quirk], args: uris.Args) -> None:
    """
    Apply the edits of a Rewrite to the request.

    Args: args: the arguments that were sent to the runner, to which its edits apply.
    """
    # In these releases, a variable keeps its first value. Source: apisix/plugins/ext-plugin/init.lua of 2.9.
    are_stale = Quirk.STALE_ARGS in quirks and rewrite.path is not None and (context.args_read or bool(context.upstream_uri))
    stale = context.args
    _apply_path(context, rewrite, quirks)
    for name, value in rewrite.headers:
        if name.lower() == "host":  # it does not change the request's header, so the variables `host` and `http_host` keep their values
            context.upstream_host = value or ""
            continue
        if Quirk.STALE_HEADERS in quirks and name != name.lower():
            context.stale_headers.setdefault(name.lower(), context.headers.getall(name, []))
        replace(context.headers, name, value)
    if rewrite.body and Quirk.BODY_IGNORED not in quirks:
        read_client_body(context)  # it uses the headers that were set above
        context.set_body(rewrite.body)
    if Quirk.NO_RESPONSE_HEADERS not in quirks:
        allowed = [(name, value) for name, value in rewrite.resp_headers if name.lower() not in PROTECTED_RESPONSE_HEADERS]
        set_all(context.response_headers, _as_sent(allowed, quirks))
    _apply_args(context, rewrite, args)
    if are_stale and len(rewrite.args) and rewrite.path is not None:
        context.upstream_uri = uris.escape_path(rewrite.path) + (f"?{stale}" if stale else "")


def _as_sent(entries: Iterable[tuple[str, str | None]], quirks: frozenset[Quirk]) -> Iterable[tuple[str, str | None]]:
    """Return response headers, without all but the last value of a repeated one for releases that lose the others."""
    if Quirk.REPEATED_HEADERS_LOST not in quirks:
        return entries
    return {name.lower(): (name, value) for name, value in entries}.values()


def _apply_path(context: RequestContext, rewrite: Rewrite, quirks: frozenset[Quirk]) -> None:
    if rewrite.path is None:
        return
    context.upstream_uri = uris.escape_path(rewrite.path)
    if context.args and Quirk.PATH_DROPS_QUERY not in quirks:
        context.upstream_uri += f"?{context.args}"


def _apply_args(context: RequestContext, rewrite: Rewrite, args: uris.Args) -> None:
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
    context.set_args(query)
    # Without a new path, `upstream_uri` is kept, so changed arguments are lost after proxy-rewrite (observed).
    if rewrite.path is not None:
        context.upstream_uri = uris.escape_path(rewrite.path) + (f"?{query}" if query else "")
