# SPDX-License-Identifier: Apache-2.0
"""Ask a runner, in the gateway's own words, whether it answers: a configuration without plugins, and one call with it."""

import os
import socket
import stat
import time
from dataclasses import dataclass
from typing import Any, Final

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp

KEY: Final = "health#0#ext-plugin-pre-req#0"
"""Always the same, so that the store of configurations holds one row for all the times that somebody asks."""


@dataclass(frozen=True)
class Answer:
    """
    What came of asking.

    Attributes:
        is_healthy: the runner answered both as it should.
        sentence: what happened, or what stands in the way and what to do.
        took_s: how long it took, in seconds.
    """

    is_healthy: bool
    sentence: str
    took_s: float


class Unwell(Exception):
    """Something stands in the way; the text says what."""


def ask(path: str, timeout_s: float) -> Answer:
    """Ask the runner that listens on `path`, and wait for its answers no longer than `timeout_s` seconds."""
    began_s = time.monotonic()
    try:
        _converse(path, began_s + timeout_s, timeout_s)
    except Unwell as reason:
        return Answer(False, str(reason), time.monotonic() - began_s)
    took_s = time.monotonic() - began_s
    return Answer(True, f"{path} answered within {1000 * took_s:.0f} ms", took_s)


def _converse(path: str, deadline_s: float, timeout_s: float) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        _connect(sock, path)
        gateway = Connection(Role.GATEWAY)
        try:
            prepared = _exchange(sock, gateway, PrepareConfReq([], KEY), deadline_s)
            if not isinstance(prepared, PrepareConfResp):
                raise Unwell(f"{path}: {_refused(prepared, 'to prepare a configuration')}")
            replied = _exchange(sock, gateway, HTTPReqCallReq(conf_token=prepared.conf_token), deadline_s)
            if not isinstance(replied, HTTPReqCallResp) or replied.action is not None:
                raise Unwell(f"{path}: {_refused(replied, 'a call without plugins')}")
        except TimeoutError:
            raise Unwell(
                f"{path} accepts connections, but did not answer within {timeout_s:g} s. The runner may be starting, or all its workers "
                "are busy in plugins that block; its log says which"
            ) from None
        except (EOFError, ConnectionError):
            raise Unwell(
                f"{path} closed the connection without an answer. Whoever listens there does not let user {os.geteuid()} in "
                "(socket.allow_users), or has as many connections as it may have (limits.max_connections); its log says which"
            ) from None
        except RemoteProtocolError as error:
            raise Unwell(f"{path} answered what no runner answers: {error}. Another program seems to listen there") from None


def _connect(sock: socket.socket, path: str) -> None:
    try:
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise Unwell(f"{path} is not a socket, so no runner listens there. Is it the path of the runner's setting socket.file?")
        sock.connect(path)
    except FileNotFoundError:
        raise Unwell(f"there is no socket {path}: the runner is not running, or listens elsewhere") from None
    except PermissionError:
        raise Unwell(f"{path} may not be used by user {os.geteuid()}: permission denied. Ask as the user of the runner") from None
    except ConnectionRefusedError:
        raise Unwell(f"nobody listens on {path}: a runner that was killed has left it behind. Start the runner") from None
    except (BlockingIOError, TimeoutError):
        raise Unwell(f"{path} has a listener that accepts nothing, and its backlog is full") from None
    except OSError as error:  # a path too long for a socket, for example
        raise Unwell(f"{path} can't be asked: {error.strerror or error}") from None


def _exchange(sock: socket.socket, gateway: Connection, message: PrepareConfReq | HTTPReqCallReq, deadline_s: float) -> Any:
    sock.settimeout(max(0.001, deadline_s - time.monotonic()))
    sock.sendall(gateway.send(message))
    while (answer := gateway.next_event()) is NEED_DATA:
        sock.settimeout(max(0.001, deadline_s - time.monotonic()))
        data = sock.recv(1 << 16)
        if not data:
            raise EOFError
        gateway.receive_data(data)
    return answer


def _refused(answer: object, what: str) -> str:
    told = f"with the error {answer.code.name}" if isinstance(answer, ErrResp) else f"with {type(answer).__name__}"
    return f"the runner answered {told} when it was asked {what}; its log says why"
