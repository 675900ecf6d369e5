# SPDX-License-Identifier: Apache-2.0
"""Intended differences between this runner and the releases of the legacy APIs. See docs/guides/upgrade.md."""

from dataclasses import dataclass

from tests.legacy.cases import ARTICLE, RELEASE_02
from tests.legacy.outcomes import REFUSED, Outcome


@dataclass(frozen=True)
class Difference:
    """The outcomes of all calls of a case with this runner, and the reason why they differ."""

    reason: str
    outcomes: list[Outcome]


def upstream(headers: dict[str, str] | None = None, *, args: dict[str, str | None] | None = None, body: str | None = None) -> Outcome:
    """Return the outcome of a request that reached the upstream with these headers, in addition to those of the client."""
    return {"path": "/a", "headers": {"user-agent": "curl", **(headers or {})}, "args": args or {"a": "1"}, "body": body}


def reply(status: int, body: str = "", headers: dict[str, str] | None = None) -> Outcome:
    """Return the outcome of a reply to the client."""
    return {"status": status, "headers": headers or {}, "body": body}


FAILS = "if a plugin fails, its call is refused: release 0.2 let the request continue"
WRONG_TYPE = f"a setter raises TypeError for a value of the wrong type, and {FAILS}"

_RELEASE_02: dict[str, Difference] = {
    "first call has the id 0": Difference("release 0.2 ignored replies to the call with the id 0, the first of a gateway", [reply(401)]),
    "status 150": Difference("a status below 200 is refused, because the gateway would close the client's connection", [REFUSED]),
    "status text": Difference(WRONG_TYPE, [REFUSED]),
    "set uri number": Difference(WRONG_TYPE, [REFUSED]),
    "raises": Difference(FAILS, [REFUSED]),
    "config fails once": Difference(FAILS, [REFUSED, reply(200, "hello")]),
    "body bytes": Difference("a body can be bytes: release 0.2 closed the connection", [reply(200, "no")]),
    "deleted from the dict": Difference(
        "a header that is deleted from the dict does not reach the upstream",
        [{"path": "/a", "headers": {}, "args": {"a": "1"}, "body": None}],
    ),
    "set request body": Difference("the body reaches the upstream: release 0.2 did not send it", [upstream(body="changed")]),
    "set request body empty": Difference("a body is decoded as UTF-8", [upstream({"x-shown": r"'f\xfcr'"})]),
    "argument without value": Difference(
        "an argument without value is  for plugins: release 0.2 closed the connection",
        [upstream({"x-shown": "{'flag': ''}"}, args={"flag": None})],
    ),
    "header in capitals": Difference("the case of a header's name does not matter", [upstream({"x-shown": "'curl'"})]),
    "configs": Difference("the plugins of the route and their values are available", [upstream({"x-shown": "{'probe': '{}'}"})]),
}

_RELEASE_01: dict[str, Difference] = {
    "nothing": Difference("a path that is not set is not changed: release 0.1 set it to /", [upstream()]),
    "stop is kept for later calls": Difference(
        "stop() applies to one call: release 0.1 kept it for all later calls of the configuration",
        [reply(200), {**upstream(), "path": "/go"}],
    ),
    "a later rewrite undoes a stop": Difference(
        "stop() ends the chain, so a later plugin can't let a request continue that an earlier one refused", [reply(403)]
    ),
}

DIFFERENCES = {
    **{(RELEASE_02, name): difference for name, difference in _RELEASE_02.items()},
    **{(ARTICLE, name): difference for name, difference in _RELEASE_01.items()},
}
