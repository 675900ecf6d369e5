# SPDX-License-Identifier: Apache-2.0
"""Write docs/internals/behaviour.md from the scenarios that test_behaviour replays: `python -m tests.gateway.behaviour_table`."""

from pathlib import Path

from apisix.gateway.phases.quirks import EARLIEST, Quirk, release_text
from tests.gateway.recorded_scenarios import DIFFERENT
from tests.gateway.recorded_scenarios import RECORDED as FURTHER_RECORDED
from tests.gateway.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "behaviour.md"

# One line for each recorded scenario.
RECORDED = {
    "pass": "A reply without an action lets the request continue. The target is unchanged.",
    "stop-full": "Stop: the status, the body and every header are sent, also repeated names. Names are in lower case.",
    "stop-status-0": "Stop with status 0 is a 200. Without Content-Type it is text/plain.",
    "stop-no-body-204": "Stop with 204 and no body has no Content-Type.",
    "stop-no-body-403": "Stop without a body and with a status of 300 or more: nginx's error page, with the headers of the plugin.",
    "stop-no-body-200": "Stop with 200 and no body: an empty response.",
    "stop-302-location": "Stop with 302 and Location: nginx's page, without charset.",
    "stop-header-without-value": "Stop: a header without a value is not sent.",
    "stop-head": "Stop of a HEAD request: the client gets no body.",
    "stop-binary-body": "Stop: a body can contain any bytes.",
    "stop-status-999": "Stop: statuses up to 999 are possible.",
    "rewrite-path": "Rewrite of the path keeps the query.",
    "rewrite-path-encode": "Rewrite of the path: the gateway percent-encodes it, including `%` and `?`.",
    "rewrite-path-no-args": "Rewrite of the path of a request without a query.",
    "rewrite-args": "Rewrite of arguments: a value replaces, a repeated name adds, and no value deletes. The query is encoded again.",
    "rewrite-args-empty-value": "Rewrite of arguments: an empty value is sent as `e=`.",
    "rewrite-headers": "Rewrite of headers: they are set or deleted, and new ones are added at the end.",
    "rewrite-headers-repeat": "Rewrite of headers: if a name is repeated, the last value is used.",
    "rewrite-header-empty": "Rewrite of headers: a header with an empty value does not reach the upstream.",
    "rewrite-host": "Rewrite of `host` sets the upstream's Host.",
    "rewrite-body": "Rewrite of the body adapts Content-Length.",
    "rewrite-body-empty": "Rewrite with an empty body does not change the body.",
    "rewrite-body-on-get": "Rewrite of the body of a GET adds a body.",
    "rewrite-resp-headers": "Rewrite of response headers: they are added before the upstream's. Ten names are ignored.",
    "rewrite-nothing": "An empty Rewrite changes nothing.",
    "post-req-path": "ext-plugin-post-req: rewrite of the path.",
    "post-req-after-proxy-rewrite-pass": "After proxy-rewrite, the path is percent-encoded, and the arguments are the new ones.",
    "post-req-after-proxy-rewrite-args": "After proxy-rewrite, arguments that change without the path are lost.",
    "post-req-after-proxy-rewrite-path-args": "After proxy-rewrite, changes of path and arguments together are applied.",
    "post-req-after-proxy-rewrite-path-same": "After proxy-rewrite, a path that is sent back unchanged is encoded twice.",
    "error-bad-request": "Error BAD_REQUEST: 503 with nginx's page.",
    "error-unavailable": "Error SERVICE_UNAVAILABLE: 503 with nginx's page.",
    "error-degrade": "An error with `allow_degradation`: the request continues.",
    "close": "The runner closes the connection: 503, without a second try.",
    "token-forgotten-once": "CONF_TOKEN_NOT_FOUND: all tokens are deleted, and PrepareConf and the call are repeated.",
    "token-never-known": "CONF_TOKEN_NOT_FOUND three times: 503.",
    "ask-vars": "Variables of nginx and APISIX. If a variable is not set, the reply has no result.",
    "ask-respbody-in-request": "An info request for the response's body in a request phase: no result.",
    "resp-pass": "ext-plugin-post-resp without changes: ten of the upstream's headers are lost, including Content-Type.",
    "resp-header-only": "ext-plugin-post-resp: if the reply has headers, only these reach the client.",
    "resp-headers-full": "ext-plugin-post-resp: the reply has the complete list of headers, with Content-Length.",
    "resp-status": "ext-plugin-post-resp: a status replaces the upstream's.",
    "resp-body": "ext-plugin-post-resp: a body replaces the upstream's.",
    "resp-body-wrong-length": "ext-plugin-post-resp: a Content-Length in the reply is not checked.",
    "resp-read": "ext-plugin-post-resp: the body can be read.",
    "resp-read-twice": "ext-plugin-post-resp: the second info request for the body has no result.",
    "resp-gzip": "ext-plugin-post-resp without headers: Content-Encoding is lost, and the body stays compressed.",
    "resp-chunked": "ext-plugin-post-resp: a chunked response is decoded, but its Transfer-Encoding is sent to the runner.",
    "resp-204": "ext-plugin-post-resp, upstream 204: a second request, and repeated headers.",
    "resp-304": "ext-plugin-post-resp, upstream 304: a second request, and repeated headers.",
    "resp-head": "ext-plugin-post-resp, HEAD: a second request, and repeated headers.",
    "resp-302": "ext-plugin-post-resp, upstream 302: Location is lost.",
    "resp-error": "ext-plugin-post-resp, an error: 503 with the upstream's body, without its headers.",
    "resp-error-degrade": "ext-plugin-post-resp, an error with `allow_degradation`: the upstream's status and body, without its headers.",
    "resp-close": "ext-plugin-post-resp, the runner closes the connection: the same as an error.",
    "resp-big": "ext-plugin-post-resp: a body of 380,000 bytes is sent in one frame.",
    "empty-conf": "A plugin without `conf`: PrepareConf without entries.",
}

# Scenarios that the development gateway does not pass, with the reason. test_behaviour expects them to fail.
NOT_EMULATED: dict[str, str] = {}

# Behaviour without a recording, and the test in tests/gateway that checks it. None: it is not emulated.
FURTHER = [
    ("The first call has the id 0, and later ids increase.", "phases/test_phases.py::test_ids_count_from_zero"),
    (
        "PrepareConf is sent on a second connection while the first one is open and silent.",
        "phases/test_phases.py::test_prepare_on_a_second_connection",
    ),
    ("There is one token for each route, plugin and version. A changed route gets a new one.", "phases/test_tokens.py::test_kept_by_key"),
    ("PrepareConf runs under one lock for all routes. Requests wait for it for 5 s.", "phases/test_tokens.py::test_one_lock_for_all"),
    ("If PrepareConf fails, each request repeats it.", "phases/test_phases.py::test_failed_prepare_is_repeated"),
    ("Up to 32 idle connections are kept, for 180 s.", "runner/test_connection_pool.py::test_keeps_so_many"),
    ("The runner is not running: 503.", "phases/test_phases.py::test_no_runner"),
    ("The runner is silent: 503 after the read timeout (60 s, `--read-timeout`).", "phases/test_phases.py::test_silent_runner"),
    ("A zero-length or malformed reply: 500.", "phases/test_phases.py::test_garbage"),
    (
        "A reply of another type than the call: 503, or the request continues with `allow_degradation`.",
        "phases/test_phases.py::test_a_frame_that_is_not_due",
    ),
    ("A request that is not valid HTTP: nginx's 400, 405, 414, 501 or 505, with its page.", "http/test_http1.py::test_page_and_report"),
    ("A method that is not in the schema: 500 in the request phases.", "phases/test_phases.py::test_method_without_a_name"),
    ("An info request for a body of more than 2^24 - 28 bytes: 503.", "phases/test_phases.py::test_body_over_the_limit"),
    (
        "ext-plugin-post-resp, an error with `allow_degradation`: the client gets the upstream's status.",
        "phases/test_phases.py::test_error_in_the_response_phase",
    ),
    (
        "ext-plugin-post-resp, an error on a 204 or a HEAD: the upstream gets the request again, and the client gets that response.",
        "phases/test_phases.py::test_error_in_the_response_phase_without_a_body",
    ),
    (
        "ext-plugin-post-resp, a chunked upload: APISIX hangs for 60 s, then 502. `dev` sends the 502 at once and displays the reason.",
        "phases/test_phases.py::test_chunked_upload_in_the_response_phase",
    ),
    (
        "The runner decreases or deletes content-length before the body is read: the rest of the body runs as a second request.",
        "phases/test_phases.py::test_length_that_is_too_short",
    ),
    (
        "The runner increases content-length: APISIX waits for 60 s. `dev` sends a 408 at once and displays the reason.",
        "phases/test_phases.py::test_length_that_is_too_long",
    ),
    ("The runner deletes `host`: the upstream gets no Host.", "phases/test_phases.py::test_host_that_is_deleted"),
    (
        "The client closes the connection while its request waits: the request continues. `dev` displays it with status 499.",
        "test_http_server.py::test_client_that_gives_up_waiting",
    ),
    ("A `filter_func` other than a comparison of one variable with a text or nil: its route answers 503.", "test_rules.py"),
    (
        "Forms of requests, hosts and conditions, and the plugins proxy-rewrite, redirect, response-rewrite, key-auth and basic-auth.",
        "test_rules.py",
    ),
    ("`vars` and `_meta.filter`: all operators and groups of lua-resty-expr.", "routing/test_expressions.py"),
    ("The runner gets at most 100 headers.", "test_recorded_frames.py::test_same_frames"),
    ("Paths, names and values with bytes that are not UTF-8.", "test_recorded_frames.py::test_same_frames"),
    ("Routes: `uri`, `uris`, `methods`, `host`, `hosts`, `remote_addr`, `priority`, `:name`, `*`, `status`.", "routing/test_routes.py"),
    ("Weighted round-robin over nodes. If a node refuses the connection, the next one is used.", "test_server.py::test_next_node"),
    ("Upstreams with `scheme: https`: TLS without verification. The standard port is 443.", "test_server.py::test_https_to_the_upstream"),
    ("apisix.yaml: it is read again if it changes, and ignored without `#END`.", "resources/test_standalone.py"),
    ("Admin API: status codes, messages, pages, filters, `ttl`, `force`, and the form of APISIX 2.", "resources/test_admin.py"),
    ("Requests of `adc` and of the ingress controller 1, and `/apisix/admin/configs`.", "resources/test_clients.py"),
    ("Credentials of consumers, and consumer groups.", "resources/test_clients.py"),
    ("Certificates, plugin metadata, protos and secrets: `dev` stores them, and they have no effect.", "resources/test_admin.py"),
    (
        "Upstreams of type `chash`: the same node as on APISIX since 2.15, for up to 5000 units of weight. The address of a node is hashed "
        "as the definition has it; APISIX resolves host names first. Before 2.15, APISIX did not divide weights by their common divisor.",
        "routing/test_balancing.py",
    ),
    (
        "Upstreams of type `least_conn`: the node with the fewest requests in progress, divided by its weight, is used.",
        "test_rules.py::test_least_connections",
    ),
    (
        "Upstreams of type `ewma`: the node with the lowest moving average of response times is used. "
        "APISIX compares two nodes that it draws at random.",
        "routing/test_balancing.py::test_ewma",
    ),
    (
        "A route with a plugin that guards it and is not emulated, for example jwt-auth: 503.",
        "test_server.py::test_guard_that_is_not_emulated",
    ),
    ("Other plugins of APISIX, for example limit-count and cors: `dev` names them once and ignores them.", "resources/test_definitions.py"),
    ("Stream routes. The admin API refuses them, as APISIX does by default.", None),
    ("`enable_websocket`: the handshake goes through the plugins, and then bytes pass in both directions.", "test_websocket.py"),
    ("TLS towards clients, HTTP/2 and gRPC.", None),
    (
        "A node that closes the connection or times out before its response: the next one gets the request unless it is POST.",
        "test_rules.py",
    ),
    (
        "The upstream or ext-plugin-post-resp sends status 444 or 499: it is passed on. A Stop with these statuses closes the connection.",
        "test_http_server.py::test_the_upstream_sends_a_status_that_closes_the_connection",
    ),
    ("Health checks of an upstream (`checks`): `dev` and `check` report that they have no effect.", None),
]


def _since(quirk: Quirk) -> str:
    return "" if quirk.since == EARLIEST else f" (since {release_text(quirk.since)})"


def page() -> str:
    """Return the text of docs/internals/behaviour.md."""
    lines = [
        "<!-- Generated from tests/gateway/behaviour_table.py by `make docs`. -->",
        "# Development gateway",
        "",
        "`apisix-runner dev` starts a gateway that emulates the plugin phases of Apache APISIX 3.18. The first table lists behaviour",
        "that was recorded on a real gateway. A test replays each recording: the client, the upstream and the runner must get the same.",
        "Values that pass through a Lua table have a random order there, so they are compared sorted by name.",
        "",
        "| recorded on APISIX 3.18 | scenario | emulated |",
        "| --- | --- | --- |",
    ]
    for scenario in SCENARIOS:
        name = scenario["scenario"]
        lines.append(f"| {RECORDED[name]} | `{name}` | {NOT_EMULATED.get(name) or 'yes'} |")
    same = sum(len(scenario["requests"]) for scenario in FURTHER_RECORDED if scenario["scenario"] not in DIFFERENT)
    total = sum(len(scenario["requests"]) for scenario in FURTHER_RECORDED)
    lines += [
        "",
        f"Further {len(FURTHER_RECORDED)} recorded scenarios with {total} requests cover features of routes, forms of requests,",
        "and replies of runners: matching, services, plugin configs, consumers with key-auth and basic-auth, global rules, proxy-rewrite,",
        "`_meta`, content types, statuses, and failures of upstreams. The table lists the scenarios with a difference, and its reason.",
        f"In all others, {same} requests, the client, the upstream and the runner get the same as on APISIX.",
        "",
        "| different from APISIX 3.18 | scenario |",
        "| --- | --- |",
        *(f"| {reason[0].upper()}{reason[1:]}. | `{name}` |" for name, reason in DIFFERENT.items()),
    ]
    lines += [
        "",
        "`--apisix-version` emulates an older release, from 2.7 on:",
        "",
        "| before | difference |",
        "| --- | --- |",
        *(f"| {release_text(quirk.fixed_in)} | {quirk.description[0].upper()}{quirk.description[1:]}{_since(quirk)}. |" for quirk in Quirk),
    ]
    lines += [
        "",
        "The router is the default of the emulated release: `radixtree_uri` before 3.3, and `radixtree_host_uri` since 3.3. If the gateway",
        "has another `apisix.router.http` in its config.yaml, start `dev` with `--router` and that value. `dev` prints its router when it",
        "starts, and reports paths with `:name`, which is a parameter only with `radixtree_uri_with_parameter`.",
    ]
    lines += ["", "| read in the source of APISIX, or observed without a recording | emulated |", "| --- | --- |"]
    lines += [f"| {behaviour} | {'no' if test is None else f'yes: `{test}`'} |" for behaviour, test in FURTHER]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
