# SPDX-License-Identifier: Apache-2.0
"""
Other runners, which the table measures in the same run and with the same frames.

A peer is any program that speaks the protocol of the gateway's external plugins. It gets its socket as every runner of APISIX does: the
environment variable `APISIX_LISTEN_ADDRESS` is `unix:` and the path, and `APISIX_CONF_EXPIRE_TIME` is set too. It needs the plugins of
the cases, under the names that `PLUGINS` has.
"""

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apisix.runner.wire.messages import HTTPReqCallResp, Rewrite
from bench.cases import REQUEST_HEADERS, Case
from bench.files import CannotMeasure
from bench.modes import COMPILED, PURE
from bench.processes import process_family, serving

PLUGINS = {
    "bench-noop": "does nothing",
    "bench-read-set": "sets the request header x-bench to the value of user-agent",
    "bench-iterate-set": "iterates over all request headers and sets x-bench to their number, 12",
    "bench-stop": "replies 403 with content-type text/plain, x-bench stop and the body 'refused by the bench'",
    "bench-read-body": "requests the request's body",
    "bench-response-set": "sets the response header x-bench to 1, in ext-plugin-post-resp",
    "bench-async-noop": "does nothing, in whatever the peer has for asynchronous plugins",
    "bench-set-header": 'sets the request header that its configuration, {"name": "..."}, names to 1; five of them are a chain',
}
"""What the plugins of a peer have to do, by name."""


@dataclass(frozen=True)
class Peer:
    """
    A runner that can be started.

    Attributes:
        name: its name in the table.
        command: the command that starts it.
        environment: further environment variables.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse(text: str) -> Peer:
    """
    Return the peer that `NAME=COMMAND` describes.

    Raises:
        ValueError: it has another form.
    """
    name, equals, command = text.partition("=")
    words = tuple(shlex.split(command))
    if not (name and equals and words) or name in (COMPILED, PURE):
        raise ValueError(
            f"expected NAME=COMMAND, for example go='./go-runner run', and a name other than {COMPILED} and {PURE}, not {text!r}"
        )
    return Peer(name, words)


def argument(text: str) -> Peer:
    """Return the peer that an argument of the command line describes."""
    try:
        return parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem


def takes_part(case: Case) -> bool:
    """Return whether peers are measured in this case. They are not measured for the legacy APIs."""
    return case.compared_with is None


@contextmanager
def running(peer: Peer, directory: Path, on: set[int]) -> Iterator[tuple[Path, list[int]]]:
    """
    Run a peer in the current directory, pinned to the cores `on`.

    Yields:
        Its socket, and the pids of its processes.
    Raises:
        CannotMeasure: it does not listen on its socket in time.
    """
    path = directory / "peer.sock"
    path.unlink(missing_ok=True)
    with serving(peer.command, path, variables(peer, path), on, directory=Path.cwd()) as process:
        yield path, process_family(process.pid, 1)


def variables(peer: Peer, path: Path) -> dict[str, str]:
    """Return the environment of a runner that is to listen on the socket `path`. Source: gateway contract, 8."""
    return {**os.environ, **peer.environment, "APISIX_LISTEN_ADDRESS": f"unix:{path}", "APISIX_CONF_EXPIRE_TIME": "3600"}


def check_reply(case: Case, frame: bytes) -> None:
    """
    Raise CannotMeasure if a peer's plugins did not do their work.

    Only what the gateway acts upon is compared: the kind of action, status and body, and the headers that the plugins set. Runners differ
    in the case and order of headers, and some send what they have received although the plugins did not change it.
    """
    expected: Any = case.answer(1)
    actual: Any = type(expected).decode(frame[4:])
    if isinstance(expected, HTTPReqCallResp):
        expected, actual = expected.action, actual.action
    if not _same_effect(case, expected, actual):
        raise CannotMeasure(f"In the case {case.name!r} the reply has to have the effect of {expected!r}, but it is {actual!r}.")


def _same_effect(case: Case, expected: Any, actual: Any) -> bool:
    if expected is None and actual is None:
        return True
    headers = _pairs(getattr(actual, "headers", None))
    if expected is None:
        return isinstance(actual, Rewrite) and headers <= _pairs(REQUEST_HEADERS) and actual.body in (b"", None, case.body())
    return (
        type(expected) is type(actual)
        and headers >= _pairs(case.headers_set())
        and all((getattr(expected, name, None) or None) == (getattr(actual, name, None) or None) for name in ("status", "body"))
    )


def _pairs(headers: Any) -> set[tuple[str, str | None]]:
    return {(name.lower(), value) for name, value in headers or ()}


def help_text() -> str:
    """Return the part of `--help` about peers."""
    plugins = "\n".join(f"  {name:<19} {what}" for name, what in PLUGINS.items())
    return (
        "--peer starts another runner with the given command in the current directory, and measures it in the same run, with the same\n"
        "frames and on the same core. The command gets the path of its socket as from a gateway: APISIX_LISTEN_ADDRESS=unix:PATH in\n"
        "its environment, and APISIX_CONF_EXPIRE_TIME=3600. A case that the peer fails is shown as not measured. It needs these plugins,\n"
        f"whose replies are checked:\n{plugins}\n"
    )
