# SPDX-License-Identifier: Apache-2.0
"""Every message of the schema: its class, its table in the oracle, values for it, and its content as a plain dictionary."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from apisix.runner.wire.connection import Role
from apisix.runner.wire.entries import TextEntries
from apisix.runner.wire.messages import (
    ErrCode,
    ErrResp,
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Message,
    Method,
    PrepareConfReq,
    PrepareConfResp,
    ReqBody,
    RespBody,
    Rewrite,
    Stop,
    Var,
)
from tests.oracle import oracle

GOLDEN = Path(__file__).parents[1] / "golden" / "frames.jsonl"

TABLES: dict[type[Message], str] = {
    PrepareConfReq: "PrepareConf.Req",
    PrepareConfResp: "PrepareConf.Resp",
    HTTPReqCallReq: "HTTPReqCall.Req",
    HTTPReqCallResp: "HTTPReqCall.Resp",
    HTTPRespCallReq: "HTTPRespCall.Req",
    HTTPRespCallResp: "HTTPRespCall.Resp",
    ExtraInfoReq: "ExtraInfo.Req",
    ExtraInfoResp: "ExtraInfo.Resp",
    ErrResp: "Err.Resp",
}

SENT_BY: dict[Role, tuple[type[Message], ...]] = {
    Role.GATEWAY: (PrepareConfReq, HTTPReqCallReq, HTTPRespCallReq, ExtraInfoResp),
    Role.RUNNER: (PrepareConfResp, HTTPReqCallResp, HTTPRespCallResp, ExtraInfoReq, ErrResp),
}

VARIANTS: dict[str, type[Any]] = {"Stop": Stop, "Rewrite": Rewrite, "Var": Var, "ReqBody": ReqBody, "RespBody": RespBody}

# A path or a header can contain any bytes. Those that are not UTF-8 are surrogates in the text.
texts = st.binary(max_size=24).map(lambda data: data.decode("utf-8", "surrogateescape")) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=24
)
_entries = st.lists(st.tuples(texts, st.none() | texts), max_size=6)
_configuration = st.lists(st.tuples(texts, texts), max_size=6)
_u32 = st.integers(0, 2**32 - 1)
_u16 = st.integers(0, 2**16 - 1)
_bodies = st.binary(max_size=64)

_stop = st.fixed_dictionaries({"status": _u16, "headers": _entries, "body": _bodies})
_rewrite = st.fixed_dictionaries(
    {"path": st.none() | texts, "headers": _entries, "args": _entries, "resp_headers": _entries, "body": _bodies}
)
_action = st.none() | st.tuples(st.just("Stop"), _stop) | st.tuples(st.just("Rewrite"), _rewrite)
_info = (
    st.tuples(st.just("Var"), st.fixed_dictionaries({"name": texts}))
    | st.just(("ReqBody", dict[str, Any]()))
    | st.just(("RespBody", dict[str, Any]()))
)

CONTENTS: dict[type[Message], st.SearchStrategy[dict[str, Any]]] = {
    PrepareConfReq: st.fixed_dictionaries({"conf": _configuration, "key": st.none() | texts}),
    PrepareConfResp: st.fixed_dictionaries({"conf_token": _u32}),
    HTTPReqCallReq: st.fixed_dictionaries(
        {
            "id": _u32,
            "src_ip": st.sampled_from([b"", b"\x7f\0\0\1", bytes(16)]),
            "method": st.sampled_from([method.name for method in Method]),
            "path": texts,
            "args": _entries,
            "headers": _entries,
            "conf_token": _u32,
        }
    ),
    HTTPReqCallResp: st.fixed_dictionaries({"id": _u32, "action": _action}),
    HTTPRespCallReq: st.fixed_dictionaries({"id": _u32, "status": _u16, "headers": _entries, "conf_token": _u32}),
    HTTPRespCallResp: st.fixed_dictionaries({"id": _u32, "status": _u16, "headers": _entries, "body": _bodies}),
    ExtraInfoReq: st.fixed_dictionaries({"info": _info}),
    ExtraInfoResp: st.fixed_dictionaries({"result": st.none() | _bodies}),
    ErrResp: st.fixed_dictionaries({"code": st.sampled_from([code.value for code in ErrCode])}),
}

contents_of_any = st.sampled_from(list(CONTENTS)).flatmap(lambda kind: st.tuples(st.just(kind), CONTENTS[kind]))

EXAMPLES: tuple[Message, ...] = (
    PrepareConfReq([("say", '{"body": "hello"}'), ("say", "not json"), ("stop", "")], "route#1#ext-plugin-pre-req#42"),
    PrepareConfResp(2**31),
    HTTPReqCallReq(0, b"\x7f\0\0\1", "PATCH", "/\udcff", [("flag", None), ("e", "")], [("host", "a"), ("x", "1"), ("x", "2")], 7),
    HTTPReqCallResp(0),
    HTTPReqCallResp(1, Stop(403, [("X-A", "1"), ("X-A", "2")], b'{"no": 1}')),
    HTTPReqCallResp(2, Rewrite("/new", [("x", None)], [("a", "1")], [("x-r", "é")], b"\0\xff")),
    HTTPRespCallReq(3, 200, [("Set-Cookie", "u1=1"), ("Set-Cookie", "u2=2")], 7),
    HTTPRespCallResp(4, 500, [("content-type", "text/plain")], b"failed"),
    ExtraInfoReq(Var("request_id")),
    ExtraInfoReq(ReqBody()),
    ExtraInfoReq(RespBody()),
    ExtraInfoResp(),
    ExtraInfoResp(b""),
    ExtraInfoResp(b"\0\1\2\xff"),
    ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND),
)


class GoldenFrame(NamedTuple):
    """A frame that was recorded between a real gateway and a runner."""

    label: str
    sender: Role
    frame_type: int
    payload: bytes
    kind: type[Message]


def golden_frames() -> list[GoldenFrame]:
    """Return the recorded frames."""
    frames = []
    for line in GOLDEN.read_text().rstrip("\n").split("\n"):  # not splitlines, since a text contains U+0085
        recorded = json.loads(line)
        for frame in recorded["frames"]:
            sender = Role.GATEWAY if frame["direction"] == "gateway>runner" else Role.RUNNER
            (kind,) = (kind for kind in SENT_BY[sender] if frame["type"] == kind.TYPE)
            frames.append(GoldenFrame(recorded["label"], sender, frame["type"], b64decode(frame["payload"]), kind))
    return frames


def message(kind: type[Any], content: dict[str, Any]) -> Any:
    """Build a message, or a table in one, from its content."""
    return kind(
        **{
            name: message(VARIANTS[value[0]], value[1]) if name in ("action", "info") and value else value
            for name, value in content.items()
        }
    )


def content(table: Any) -> dict[str, Any]:
    """Return the content of a message, or of a table in one. This reads every field."""
    names: tuple[str, ...] = table.FIELDS if hasattr(table, "FIELDS") else table.__slots__
    return {name: _plain(getattr(table, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, TextEntries):
        return list(value)
    if type(value) in VARIANTS.values():
        return type(value).__name__, content(value)
    return value


def as_read(kind: type[Message], values: oracle.Values) -> dict[str, Any]:
    """Return the values of the oracle in the form of `content`: absent values are empty, unless the difference has a meaning."""
    return _without_absent(TABLES[kind], values)


_ABSENT_HAS_A_MEANING = {("PrepareConf.Req", "key"), ("HTTPReqCall.Rewrite", "path"), ("ExtraInfo.Resp", "result")}


def _without_absent(table: str, values: oracle.Values) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, kind in oracle.TABLES[table].items():
        value = values.get(name)
        if kind in (oracle.ACTION, oracle.INFO):
            value = value and (value[0], _without_absent(f"{table.partition('.')[0]}.{value[0]}", value[1]))
        elif value is None and (table, name) not in _ABSENT_HAS_A_MEANING:
            value = {oracle.NUMBER: 0, oracle.METHOD: "GET", oracle.TEXT: "", oracle.BYTES: b"", oracle.ENTRIES: []}[kind]
        elif name == "conf":
            value = [(key, text or "") for key, text in value or ()]
        result[name] = value
    return result
