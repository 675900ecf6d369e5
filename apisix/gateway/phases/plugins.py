# SPDX-License-Identifier: Apache-2.0
"""
APISIX's own plugins: those that the development gateway emulates, and those that guard a route and are not emulated.

APISIX runs the plugins of a request by phase, and within a phase by priority. Source: the documentation of each plugin; the priorities
are those of APISIX 3.18's configuration.
"""

import base64
import ipaddress
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, json_answer, page_answer
from apisix.gateway.http.headers import set_one
from apisix.gateway.phases import auth, proxy_rewrite, variables
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.routing import expressions
from apisix.gateway.routing.routes import ConfSource
from apisix.runner.http.phase import Phase

PluginPhase = Literal["rewrite", "access", "before_proxy", "header_filter"]
REQUEST_PHASES: tuple[PluginPhase, ...] = ("rewrite", "access")
"""The phases in which a plugin may answer a request."""
Conf = Mapping[str, Any]
Run = Callable[[RequestContext, Conf, auth.Find], Answer | None]


@dataclass(frozen=True, slots=True)
class Emulated:
    """
    A plugin that the development gateway emulates.

    Attributes:
        run: changes the request, or returns the answer that ends it. None for the plugins that call the runner or change the answer.
        supported: the fields of its configuration that have an effect; None if all have.
    """

    priority: int
    phase: PluginPhase
    run: Run | None = None
    supported: frozenset[str] | None = None


def _proxy_rewrite(context: RequestContext, conf: Conf, _: auth.Find) -> None:
    proxy_rewrite.apply(context, conf)


def _ip_restriction(context: RequestContext, conf: Conf, _: auth.Find) -> Answer | None:
    address = ipaddress.ip_address(context.remote_addr)

    def contains(networks: list[str]) -> bool:
        return any(address in ipaddress.ip_network(network, strict=False) for network in networks)

    allowed = not contains(conf.get("blacklist", ())) and ("whitelist" not in conf or contains(conf["whitelist"]))
    if allowed:
        return None
    return _text(json_answer(conf.get("response_code", 403), {"message": conf.get("message", "Your IP address is not allowed")}))


# The port of TLS in APISIX's default configuration.
_HTTPS_PORT = 9443


def _redirect(context: RequestContext, conf: Conf, _: auth.Find) -> Answer | None:
    if conf.get("http_to_https"):
        target = f"https://{context.host}:{_HTTPS_PORT}{context.request_uri}"
        status = 301 if context.method in ("GET", "HEAD") else 308
    elif "uri" in conf:
        target, status = proxy_rewrite.resolve(conf["uri"], context), conf.get("ret_code", 302)
    elif "regex_uri" in conf:
        target, match = proxy_rewrite.rewrite_by_regex(conf["regex_uri"], context.uri)
        if match is None:
            return None
        status = conf.get("ret_code", 302)
    else:
        return None
    path, mark, query = target.partition("?")
    if conf.get("encode_uri"):
        target = uris.escape_path(path) + mark + query
    if conf.get("append_query_string") and context.args:
        target += ("&" if mark else "?") + context.args
    answer = page_answer(status, context.response_headers)
    set_one(answer.headers, "Location", target)
    return answer


def _fault_injection(context: RequestContext, conf: Conf, _: auth.Find) -> Answer | None:
    abort = conf.get("abort")
    if not abort or random.uniform(0, 100) > abort.get("percentage", 100):  # noqa: S311  # not for secrets
        return None
    if "vars" in abort and not any(expressions.is_true(part, lambda name: variables.look_up(context, name)) for part in abort["vars"]):
        return None
    for name, value in abort.get("headers", {}).items():
        set_one(context.response_headers, name, proxy_rewrite.resolve(str(value), context))
    body = proxy_rewrite.resolve(abort.get("body", ""), context).encode()
    if not body and abort["http_status"] >= 300:
        return page_answer(abort["http_status"], context.response_headers)
    answer = Answer(abort["http_status"], context.response_headers, body)
    return answer if "content-type" in answer.headers else _text(answer)


def rewrite_response(answer: Answer, context: RequestContext, conf: Conf) -> Answer:
    """Apply response-rewrite to the answer of a request, whichever plugin or upstream it comes from."""
    if not expressions.is_true(conf.get("vars", []), lambda name: variables.look_up(context, name)):
        return answer
    headers = conf.get("headers", {})
    is_old_form = not any(isinstance(value, dict | list) for value in headers.values())
    operations = {"set": headers} if is_old_form else headers
    for line in operations.get("add", ()):
        name, _, value = line.partition(":")
        set_one(answer.headers, name.strip(), proxy_rewrite.resolve(value.strip(), context), adds=True)
    for name, value in operations.get("set", {}).items():
        set_one(answer.headers, name, proxy_rewrite.resolve(str(value), context))
    for name in operations.get("remove", ()):
        answer.headers.popall(name, None)
    status = conf.get("status_code", answer.status)
    if "body" not in conf:
        return replace(answer, status=status)
    for name in ("content-length", "content-encoding", "last-modified", "etag"):
        answer.headers.popall(name, None)
    body = base64.b64decode(conf["body"]) if conf.get("body_base64") else conf["body"].encode()
    return replace(answer, status=status, body=body)


def _text(answer: Answer) -> Answer:
    answer.headers["Content-Type"] = "text/plain; charset=utf-8"
    return answer


AUTHENTICATION = frozenset({"basic-auth", "key-auth"})
"""Plugins that are emulated and whose configuration in a consumer contains its credentials."""
CREDENTIALS = AUTHENTICATION | {"hmac-auth", "jwe-decrypt", "jwt-auth", "ldap-auth", "ldap-auth-advanced", "wolf-rbac"}
"""All plugins whose configuration in a consumer contains its credentials. Source: APISIX, plugins of the type `auth`."""
RESPONSE_REWRITE = "response-rewrite"
EMULATED: dict[str, Emulated] = {
    Phase.PRE_REQ: Emulated(12000, "rewrite"),
    "fault-injection": Emulated(11000, "rewrite", _fault_injection, frozenset({"abort"})),
    "ip-restriction": Emulated(3000, "access", _ip_restriction),
    "basic-auth": Emulated(2520, "rewrite", auth.basic_auth, frozenset({"hide_credentials", "realm", "anonymous_consumer"})),
    "key-auth": Emulated(2500, "rewrite", auth.key_auth, frozenset({"header", "query", "hide_credentials", "realm", "anonymous_consumer"})),
    proxy_rewrite.NAME: Emulated(1008, "rewrite", _proxy_rewrite, proxy_rewrite.SUPPORTED),
    "redirect": Emulated(
        900, "rewrite", _redirect, frozenset({"http_to_https", "uri", "regex_uri", "ret_code", "append_query_string", "encode_uri"})
    ),
    RESPONSE_REWRITE: Emulated(899, "header_filter", None, frozenset({"headers", "body", "body_base64", "status_code", "vars"})),
    Phase.POST_REQ: Emulated(-3000, "access"),
    Phase.POST_RESP: Emulated(-4000, "before_proxy"),
}

GUARDS = frozenset(
    {
        "acl",
        "ai-aliyun-content-moderation",
        "ai-aws-content-moderation",
        "ai-lakera-guard",
        "ai-prompt-guard",
        "authz-casbin",
        "authz-casdoor",
        "authz-keycloak",
        "cas-auth",
        "chaitin-waf",
        "consumer-restriction",
        "csrf",
        "dingtalk-auth",
        "feishu-auth",
        "forward-auth",
        "hmac-auth",
        "jwe-decrypt",
        "jwt-auth",
        "ldap-auth",
        "ldap-auth-advanced",
        "multi-auth",
        "oas-validator",
        "opa",
        "openid-connect",
        "referer-restriction",
        "request-validation",
        "saml-auth",
        "serverless-post-function",
        "serverless-pre-function",
        "ua-restriction",
        "uri-blocker",
        "wolf-rbac",
        "workflow",
    }
)
"""Plugins that may refuse a request and are not emulated. A route with one of them answers 503."""


def guard_that_is_not_emulated(plugins: Mapping[str, Conf]) -> str | None:
    """Return what guards a route and is not emulated, None if there is nothing."""
    for name, conf in plugins.items():
        if name in GUARDS:
            return f"plugin {name}"
        if "pre_function" in conf.get("_meta", {}):
            return f"_meta.pre_function of {name}"
    return None


@dataclass(frozen=True, slots=True)
class PluginSet:
    """The plugins of a route, a global rule or a consumer. `source` identifies them in the key of PrepareConf."""

    source: ConfSource
    plugins: Mapping[str, Conf]

    def in_phase(self, phase: PluginPhase, context: RequestContext) -> Iterator[tuple[str, Conf]]:
        """Yield name and configuration of the plugins that run in a phase for this request, in the order of their priority."""
        present = [name for name in self.plugins if name in EMULATED and EMULATED[name].phase == phase]
        present.sort(key=lambda name: -self.plugins[name].get("_meta", {}).get("priority", EMULATED[name].priority))
        for name in present:
            condition = self.plugins[name].get("_meta", {}).get("filter", [])
            if expressions.is_true(condition, lambda variable: variables.look_up(context, variable)):
                yield name, self.plugins[name]


def with_error_response(answer: Answer, conf: Conf) -> Answer:
    """Return the answer of a plugin with the body that `_meta.error_response` defines for errors."""
    body = conf.get("_meta", {}).get("error_response")
    if body is None or answer.status < 400:
        return answer
    replaced = _text(json_answer(answer.status, body)) if isinstance(body, dict | list) else Answer(answer.status, body=str(body).encode())
    headers = answer.headers.copy()
    headers.popall("content-length", None)
    return Answer(answer.status, headers, replaced.body)
