# SPDX-License-Identifier: Apache-2.0
"""docs/internals/behaviour.md, made from the scenarios that test_behaviour replays. `python -m tests.gateway.behaviour_table` writes it."""

from pathlib import Path

from tests.gateway.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "behaviour.md"

# One line for each recorded scenario.
RECORDED = {
    "pass": "A reply without action lets the request pass, its raw target unchanged.",
    "stop-full": "Stop: status, body and every header, repeated names too, names in lower case.",
    "stop-status-0": "Stop with status 0 is a 200; without Content-Type it is text/plain.",
    "stop-no-body-204": "Stop with 204 and no body has no Content-Type.",
    "stop-no-body-403": "Stop without body and a status of 300 or more: nginx's own page, with the plugin's headers.",
    "stop-no-body-200": "Stop with 200 and no body: an empty answer.",
    "stop-302-location": "Stop with 302 and Location: nginx's page, without charset.",
    "stop-header-without-value": "Stop: a header without value is not sent.",
    "stop-head": "Stop of a HEAD request: no body reaches the client.",
    "stop-binary-body": "Stop: bodies are bytes.",
    "stop-status-999": "Stop: statuses up to 999 pass.",
    "rewrite-path": "Rewrite of the path keeps the query.",
    "rewrite-path-encode": "Rewrite of the path: it is percent-encoded by the gateway, `%` and `?` included.",
    "rewrite-path-no-args": "Rewrite of the path of a request without query.",
    "rewrite-args": "Rewrite of arguments: a value replaces, repeats append, no value deletes; encoded anew.",
    "rewrite-args-empty-value": "Rewrite of arguments: an empty value stays, as `e=`.",
    "rewrite-headers": "Rewrite of headers: set, deleted, and new ones at the end.",
    "rewrite-headers-repeat": "Rewrite of headers: of repeated names the last wins.",
    "rewrite-header-empty": "Rewrite of headers: an empty value reaches no upstream.",
    "rewrite-host": "Rewrite of `host` sets the upstream's Host.",
    "rewrite-body": "Rewrite of the body, with its Content-Length.",
    "rewrite-body-empty": "Rewrite with an empty body leaves the body.",
    "rewrite-body-on-get": "Rewrite of the body of a GET gives it one.",
    "rewrite-resp-headers": "Rewrite of response headers: added before the upstream's; ten names are ignored.",
    "rewrite-nothing": "An empty Rewrite changes nothing.",
    "post-req-path": "ext-plugin-post-req: rewrite of the path.",
    "post-req-after-proxy-rewrite-pass": "After proxy-rewrite the path arrives percent-encoded, with the new arguments.",
    "post-req-after-proxy-rewrite-args": "After proxy-rewrite, arguments that change without the path are lost.",
    "post-req-after-proxy-rewrite-path-args": "After proxy-rewrite, path and arguments that change together both count.",
    "post-req-after-proxy-rewrite-path-same": "After proxy-rewrite, a path sent back as it came is encoded twice.",
    "error-bad-request": "Error BAD_REQUEST: 503 with nginx's page.",
    "error-unavailable": "Error SERVICE_UNAVAILABLE: 503 with nginx's page.",
    "error-degrade": "An error with `allow_degradation`: the request goes on.",
    "close": "The runner closes the connection: 503, and no second try.",
    "token-forgotten-once": "CONF_TOKEN_NOT_FOUND: all tokens are flushed, PrepareConf and the call are repeated.",
    "token-never-known": "CONF_TOKEN_NOT_FOUND three times: 503.",
    "ask-vars": "Variables of nginx and APISIX; an absent one has no result.",
    "ask-respbody-in-request": "The response's body, asked for in a request phase: no result.",
    "resp-pass": "ext-plugin-post-resp without change: ten of the upstream's headers are lost, Content-Type among them.",
    "resp-header-only": "ext-plugin-post-resp: as soon as one header is sent back, only those sent back reach the client.",
    "resp-headers-full": "ext-plugin-post-resp: the complete list, sent back, with Content-Length.",
    "resp-status": "ext-plugin-post-resp: a status replaces the upstream's.",
    "resp-body": "ext-plugin-post-resp: a body replaces the upstream's.",
    "resp-body-wrong-length": "ext-plugin-post-resp: a Content-Length sent back is not checked.",
    "resp-read": "ext-plugin-post-resp: the body can be read.",
    "resp-read-twice": "ext-plugin-post-resp: the second time the body is read there is none.",
    "resp-gzip": "ext-plugin-post-resp without headers: Content-Encoding is lost, the body stays compressed.",
    "resp-chunked": "ext-plugin-post-resp: a chunked response is de-chunked, and its Transfer-Encoding shown.",
    "resp-204": "ext-plugin-post-resp, upstream 204: a second request, and headers twice.",
    "resp-304": "ext-plugin-post-resp, upstream 304: a second request, and headers twice.",
    "resp-head": "ext-plugin-post-resp, HEAD: a second request, and headers twice.",
    "resp-302": "ext-plugin-post-resp, upstream 302: Location is lost.",
    "resp-error": "ext-plugin-post-resp, an error: 503 with the upstream's body and none of its headers.",
    "resp-error-degrade": "ext-plugin-post-resp, an error with `allow_degradation`: the upstream's status and body, without its headers.",
    "resp-close": "ext-plugin-post-resp, the runner closes the connection: as an error.",
    "resp-big": "ext-plugin-post-resp: a body of 380,000 bytes crosses in one frame.",
    "empty-conf": "A plugin without `conf`: PrepareConf without entries.",
}

# Scenarios that the development gateway is known to fail, with the reason; test_behaviour expects them to.
NOT_EMULATED: dict[str, str] = {}

# What no recording shows: the behaviour, and the test that holds it (in tests/gateway), or why it is not emulated.
FURTHER = [
    ("The first call has id 0, further ones count up.", "phases/test_phases.py::test_ids_count_from_zero"),
    (
        "PrepareConf travels on a second connection while the first is open and silent.",
        "phases/test_phases.py::test_prepare_on_a_second_connection",
    ),
    ("A token is kept for each route, plugin and version; a changed route gets a new one.", "phases/test_tokens.py::test_kept_by_key"),
    ("PrepareConf runs under one lock for all routes, with a wait of 5 s.", "phases/test_tokens.py::test_one_lock_for_all"),
    ("A PrepareConf that fails is repeated by each request.", "phases/test_phases.py::test_failed_prepare_is_repeated"),
    ("Up to 32 idle connections are kept, for 180 s.", "runner/test_connection_pool.py::test_keeps_so_many"),
    ("Connecting to a runner that is not there: 503.", "phases/test_phases.py::test_no_runner"),
    ("A silent runner: 503 after the read time-out (60 s, `--read-timeout`).", "phases/test_phases.py::test_silent_runner"),
    ("A zero-length or garbage reply: 500.", "phases/test_phases.py::test_garbage"),
    (
        "A reply of another type than the call's: 503, or the request goes on with `allow_degradation`.",
        "phases/test_phases.py::test_a_frame_that_is_not_due",
    ),
    ("What is no HTTP: nginx's 400, 405, 414, 501 or 505, with its page.", "http/test_http1.py::test_page_and_report"),
    ("A method that the schema does not name: 500 in the request phases.", "phases/test_phases.py::test_method_without_a_name"),
    ("A body of more than 2^24 - 28 bytes can't be asked for: 503.", "phases/test_phases.py::test_body_over_the_limit"),
    (
        "ext-plugin-post-resp, an error with `allow_degradation`: the upstream's status stays.",
        "phases/test_phases.py::test_error_in_the_response_phase",
    ),
    (
        "ext-plugin-post-resp, an error on a 204 or a HEAD: the upstream is asked again, and its answer goes out whole.",
        "phases/test_phases.py::test_error_in_the_response_phase_without_a_body",
    ),
    (
        "ext-plugin-post-resp, a chunked upload: APISIX hangs for 60 s, then 502. `dev` answers 502 at once and says why.",
        "phases/test_phases.py::test_chunked_upload_in_the_response_phase",
    ),
    (
        "A runner sets content-length too low, or deletes it, before the body is read: the rest of the body runs as a second request.",
        "phases/test_phases.py::test_length_that_is_too_short",
    ),
    (
        "A runner sets content-length beyond what the client sends: APISIX waits for 60 s. `dev` answers 408 at once and says why.",
        "phases/test_phases.py::test_length_that_is_too_long",
    ),
    ("A runner deletes `host`: the upstream gets none.", "phases/test_phases.py::test_host_that_is_deleted"),
    (
        "A client that closes the connection while its request waits: the request goes on. `dev` shows it with status 499.",
        "http/test_server.py::test_client_that_gives_up_waiting",
    ),
    ("At most 100 header entries reach the runner.", "test_recorded_frames.py::test_same_frames"),
    ("Paths, names and values with bytes that are no UTF-8.", "test_recorded_frames.py::test_same_frames"),
    ("Before 3.16 a rewritten path drops the query.", "phases/test_quirks.py::test_path_drops_query"),
    ("Before 3.18 a header set in mixed case leaves stale values for later phases.", "phases/test_quirks.py::test_stale_headers"),
    ("Routes: `uri`, `uris`, `methods`, `host`, `hosts`, `remote_addr`, `priority`, `:name`, `*`, `status`.", "routing/test_routes.py"),
    ("Weighted round-robin over nodes; a node that refuses is replaced by the next.", "test_server.py::test_next_node"),
    ("apisix.yaml: read again on change, ignored without `#END`.", "routing/test_standalone.py"),
    ("Admin API for routes and upstreams.", "routing/test_admin.py"),
    ("Plugins of APISIX other than ext-plugin-* and proxy-rewrite (`uri`, `host`, `headers`).", None),
    ("Services, consumers, plugin configs, global rules and the other resources of APISIX.", None),
    ("TLS, HTTP/2, WebSocket and gRPC, on either side. A request to upgrade goes on as a plain one.", None),
    ("Health checks, retries after a response, and load balancing other than round-robin.", None),
]


def page() -> str:
    """Return the text of docs/internals/behaviour.md."""
    lines = [
        "<!-- Generated from tests/gateway/behaviour_table.py by `make docs`. -->",
        "# How faithful the development gateway is",
        "",
        "`apisix-runner dev` does what Apache APISIX 3.18 does. Each row of the first table was recorded on a real gateway, and a test",
        "replays it: client, upstream and runner must see the same. What passes through a Lua table has a random order there;",
        "it is compared sorted by name.",
        "",
        "| recorded on APISIX 3.18 | scenario | emulated |",
        "| --- | --- | --- |",
    ]
    for scenario in SCENARIOS:
        name = scenario["scenario"]
        lines.append(f"| {RECORDED[name]} | `{name}` | {NOT_EMULATED.get(name) or 'yes'} |")
    lines += ["", "| read in APISIX, or seen on it without a recording | emulated |", "| --- | --- |"]
    lines += [f"| {behaviour} | {'no' if test is None else f'yes: `{test}`'} |" for behaviour, test in FURTHER]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
