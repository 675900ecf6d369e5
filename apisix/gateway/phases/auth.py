# SPDX-License-Identifier: Apache-2.0
"""APISIX's plugins key-auth and basic-auth, which find the consumer of a request. Source: their documentation; observed on 3.18."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from apisix.gateway.http.answer import Answer, json_answer
from apisix.gateway.http.headers import replace
from apisix.gateway.phases import variables
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.routing.routes import Consumer

Find = Callable[[], Iterable[Consumer]]
"""Returns all consumers."""


def key_auth(context: RequestContext, conf: Mapping[str, Any], consumers: Find) -> Answer | None:
    """Set the consumer of a request by its key, or return a 401."""
    header, query = conf.get("header", "apikey"), conf.get("query", "apikey")
    key = context.headers.get(header)
    if key is None:
        key = variables.look_up(context, f"arg_{query}")
    elif conf.get("hide_credentials"):
        replace(context.headers, header, None)
    if key is None:
        return _refused("Missing API key in request", 'apikey realm="key"')
    for consumer in consumers():
        if consumer.plugins.get("key-auth", {}).get("key") == key:
            set_consumer(context, consumer)
            return None
    return _refused("Invalid API key in request", 'apikey realm="key"')


def basic_auth(context: RequestContext, conf: Mapping[str, Any], consumers: Find) -> Answer | None:
    """Set the consumer of a request by user name and password, or return a 401."""
    realm = 'Basic realm="basic"'
    given = context.headers.get("authorization")
    if given is None:
        return _refused("Missing authorization in request", realm)
    scheme, _, encoded = given.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if scheme.lower() != "basic" or not colon:
        return _refused("Invalid authorization in request", realm)
    if conf.get("hide_credentials"):
        replace(context.headers, "authorization", None)
    for consumer in consumers():
        auth = consumer.plugins.get("basic-auth", {})
        if auth.get("username") == user and auth.get("password") == password:
            set_consumer(context, consumer)
            return None
    return _refused("Invalid user authorization", realm)


def _refused(message: str, realm: str) -> Answer:
    answer = json_answer(401, {"message": message})
    answer.headers["Content-Type"] = "text/plain; charset=utf-8"
    answer.headers["WWW-Authenticate"] = realm
    return answer


def set_consumer(context: RequestContext, consumer: Consumer) -> None:
    """Set the consumer of a request, and the headers that name it for the upstream."""
    context.consumer = consumer
    replace(context.headers, "X-Consumer-Username", consumer.name)
    if consumer.custom_id:
        replace(context.headers, "X-Consumer-Custom-Id", consumer.custom_id)
