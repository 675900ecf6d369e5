# SPDX-License-Identifier: Apache-2.0
"""
APISIX's plugins key-auth and basic-auth, which find the consumer of a request.

Source: apisix/plugins/key-auth.lua, basic-auth.lua and apisix/consumer.lua of 3.18; observed on 3.18.
"""

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, json_answer
from apisix.gateway.http.headers import replace
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.routing.routes import Consumer, Credential

Find = Callable[[], Iterable[Consumer]]
"""Returns all consumers."""

_BASIC = re.compile(r"basic\s(.+)", re.IGNORECASE)


class _Refused(Exception):
    """The client has not authenticated itself. The message is sent to it."""


def key_auth(context: RequestContext, conf: Mapping[str, Any], consumers: Find) -> Answer | None:
    """Set the consumer of a request by its key, or return a 401."""
    header, query = conf.get("header", "apikey"), conf.get("query", "apikey")

    def hide(*, in_header: bool, in_query: bool) -> None:
        if in_header:
            replace(context.headers, header, None)
        args = uris.parse_args(context.args or "")
        if in_query and args.pop(query, None) is not None:
            context.set_args(uris.build_query(args))

    try:
        key = context.headers.get(header)
        in_header = key is not None
        if key is None:
            values = uris.parse_args(context.args or "").get(query)
            # Several values, or none, are not text in Lua, so no consumer is found.
            key = None if values is None else (values[0] or "") if len(values) == 1 else ""
        if key is None:
            raise _Refused("Missing API key in request")
        found = _find(consumers, "key-auth", "key", key)
        if found is None:
            raise _Refused("Invalid API key in request")
    except _Refused as error:
        if "anonymous_consumer" not in conf:
            return _refused(str(error), f'apikey realm="{conf.get("realm", "key")}"')
        if conf.get("hide_credentials"):
            hide(in_header=True, in_query=True)
        return _set_anonymous(context, conf, consumers, f'apikey realm="{conf.get("realm", "key")}"')
    if conf.get("hide_credentials"):
        hide(in_header=in_header, in_query=not in_header)
    set_consumer(context, *found)
    return None


def basic_auth(context: RequestContext, conf: Mapping[str, Any], consumers: Find) -> Answer | None:
    """Set the consumer of a request by user name and password, or return a 401."""
    realm = f'Basic realm="{conf.get("realm", "basic")}"'
    try:
        user, password = _basic_credentials(context.headers.get("authorization"))
        found = _find(consumers, "basic-auth", "username", user)
        if found is None or resolved(found[1].conf.get("password")) != password:
            raise _Refused("Invalid user authorization")
    except _Refused as error:
        if "anonymous_consumer" not in conf:
            return _refused(str(error), realm)
        answer = _set_anonymous(context, conf, consumers, realm)
    else:
        answer = None
        set_consumer(context, *found)
    if conf.get("hide_credentials"):
        replace(context.headers, "authorization", None)
    return answer


def resolved(value: Any) -> Any:
    """Return the value of a credential; None if it refers to a secret that can't be read here, so that no client has it."""
    if not isinstance(value, str):
        return value
    if value.lower().startswith("$env://"):
        return os.environ.get(value[len("$env://") :])
    return None if value.lower().startswith("$secret://") else value


def _basic_credentials(given: str | None) -> tuple[str, str]:
    if given is None:
        raise _Refused("Missing authorization in request")
    match = _BASIC.search(given)
    try:
        parts = uris.decode(base64.b64decode(match[1].strip(), validate=True)).split(":") if match else []
    except (binascii.Error, ValueError):
        parts = []
    if len(parts) < 2:
        raise _Refused("Invalid authorization in request")
    # APISIX removes white space, and the text after a second colon.
    return "".join(parts[0].split()), "".join(parts[1].split())


def _find(consumers: Find, plugin: str, attribute: str, value: str) -> tuple[Consumer, Credential] | None:
    """Return the consumer with a credential. If there are several, APISIX uses the last one."""
    found = None
    for consumer in consumers():
        for credential in consumer.credentials:
            if credential.plugin == plugin and resolved(credential.conf.get(attribute)) == value:
                found = consumer, credential
    return found


def _refused(message: str, realm: str) -> Answer:
    answer = json_answer(401, {"message": message})
    answer.headers["Content-Type"] = "text/plain; charset=utf-8"
    answer.headers["WWW-Authenticate"] = realm
    return answer


def _set_anonymous(context: RequestContext, conf: Mapping[str, Any], consumers: Find, realm: str) -> Answer | None:
    for consumer in consumers():
        if consumer.name == conf["anonymous_consumer"]:
            set_consumer(context, consumer, None)
            return None
    return _refused("Invalid user authorization", realm)


def set_consumer(context: RequestContext, consumer: Consumer, credential: Credential | None) -> None:
    """Set the consumer of a request, and the headers that name it for the upstream."""
    context.consumer = consumer
    replace(context.headers, "X-Consumer-Username", consumer.name)
    replace(context.headers, "X-Credential-Identifier", None if credential is None else credential.id)
    replace(context.headers, "X-Consumer-Custom-ID", consumer.custom_id)
