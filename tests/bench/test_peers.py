# SPDX-License-Identifier: Apache-2.0
"""Other runners take part in the table: their commands are read, and their replies are compared by effect."""

import pytest

from apisix.runner.wire.messages import HTTPReqCallResp, HTTPRespCallResp, Message, Rewrite, Stop
from bench.cases import CASES, REQUEST_HEADERS
from bench.files import CannotMeasure
from bench.peers import PLUGINS, Peer, check_reply, parse, takes_part
from bench.report import PAGE

BY_NAME = {case.name: case for case in CASES}
REFUSAL = b"refused by the bench"


def test_a_command_is_split_as_a_shell_splits_it() -> None:
    assert parse("go='./go runner' run -m prod") == Peer("go", ("./go runner", "run", "-m", "prod"))


@pytest.mark.parametrize("text", ["go", "=./go-runner", "go=", "go=' '", "", "pure=./runner"])
def test_a_peer_without_name_or_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=COMMAND"):
        parse(text.replace("' '", " "))


def test_every_plugin_that_a_peer_needs_is_described() -> None:
    needed = {name for case in CASES if takes_part(case) for name, _ in case.plugins}

    assert set(PLUGINS) == needed
    assert [name for name in PLUGINS if f"| `{name}` |" not in PAGE.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("noop", HTTPReqCallResp(1, None)),
        ("noop", HTTPReqCallResp(1, Rewrite(path="/catalogue/items", headers=REQUEST_HEADERS))),
        ("body", HTTPReqCallResp(1, Rewrite(body=BY_NAME["body"].body()))),
        ("iterate-set", HTTPReqCallResp(1, Rewrite(headers=[("X-Bench", "12")]))),
        ("stop", HTTPReqCallResp(1, Stop(403, [("X-Bench", "stop"), ("Content-Type", "text/plain")], REFUSAL))),
        ("response", HTTPRespCallResp(1, 0, [("X-Bench", "1")])),
    ],
)
def test_replies_with_the_same_effect_are_accepted(name: str, reply: Message) -> None:
    check_reply(BY_NAME[name], bytes(reply.encode_frame()))


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("noop", HTTPReqCallResp(1, Rewrite(headers=[("x-other", "1")]))),
        ("noop", HTTPReqCallResp(1, Stop(403, [], b""))),
        ("body", HTTPReqCallResp(1, Rewrite(body=b"{}"))),
        ("iterate-set", HTTPReqCallResp(1, None)),
        ("iterate-set", HTTPReqCallResp(1, Rewrite(headers=[("x-bench", "0")]))),
        ("stop", HTTPReqCallResp(1, Stop(403, [("x-bench", "stop")], REFUSAL))),
        ("stop", HTTPReqCallResp(1, Stop(404, [("x-bench", "stop"), ("content-type", "text/plain")], REFUSAL))),
        ("stop", HTTPReqCallResp(1, Stop(403, [("x-bench", "stop"), ("content-type", "text/plain")], b""))),
        ("response", HTTPRespCallResp(1, 0, [])),
    ],
)
def test_replies_with_another_effect_are_refused(name: str, reply: Message) -> None:
    with pytest.raises(CannotMeasure, match="has to have the effect"):
        check_reply(BY_NAME[name], bytes(reply.encode_frame()))
