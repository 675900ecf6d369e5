# SPDX-License-Identifier: Apache-2.0
"""Probe a runner as a gateway would: prepare a configuration without plugins, and make one call with it."""

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
"""Always the same, so that the store of configurations has only one row for all probes."""


@dataclass(frozen=True)
class ProbeResult:
    """
    The result of a probe.

    Attributes:
        is_healthy: True if both replies are correct.
        sentence: what happened; if the runner is not healthy, why and what to do.
        took_s: how long the probe took, in seconds.
    """

    is_healthy: bool
    sentence: str
    took_s: float


class ProbeFailed(Exception):
    """Raised if a probe fails; the message says why and what to do."""


def probe(path: str, timeout_s: float) -> ProbeResult:
    """Probe the runner that listens on `path`. All replies must arrive within `timeout_s` seconds."""
    began_s = time.monotonic()
    try:
        _call(path, began_s + timeout_s, timeout_s)
    except ProbeFailed as reason:
        return ProbeResult(False, str(reason), time.monotonic() - began_s)
    took_s = time.monotonic() - began_s
    return ProbeResult(True, f"{path} replied within {1000 * took_s:.0f} ms", took_s)


def _call(path: str, deadline_s: float, timeout_s: float) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        _connect(sock, path)
        gateway = Connection(Role.GATEWAY)
        try:
            prepared = _exchange(sock, gateway, PrepareConfReq([], KEY), deadline_s)
            if not isinstance(prepared, PrepareConfResp):
                raise ProbeFailed(f"{path}: {_refused(prepared, 'a configuration')}")
            replied = _exchange(sock, gateway, HTTPReqCallReq(conf_token=prepared.conf_token), deadline_s)
            if not isinstance(replied, HTTPReqCallResp) or replied.action is not None:
                raise ProbeFailed(f"{path}: {_refused(replied, 'a call without plugins')}")
        except TimeoutError:
            raise ProbeFailed(
                f"{path} accepts connections, but did not reply within {timeout_s:g} s. The runner may be starting, or plugins may "
                "block all its workers; its log says which"
            ) from None
        except (EOFError, ConnectionError):
            raise ProbeFailed(
                f"{path} closed the connection without a reply. The runner does not allow user {os.geteuid()} to connect "
                "(socket.allow_users), or has reached its limit of connections (limits.max_connections); its log says which"
            ) from None
        except RemoteProtocolError as error:
            raise ProbeFailed(f"{path} sent a reply that no runner sends: {error}. Another program seems to listen there") from None


def _connect(sock: socket.socket, path: str) -> None:
    try:
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ProbeFailed(f"{path} is not a socket, so no runner listens there. Is it the path of the runner's setting socket.file?")
        sock.connect(path)
    except FileNotFoundError:
        raise ProbeFailed(f"there is no socket {path}: the runner is not running, or listens elsewhere") from None
    except PermissionError:
        raise ProbeFailed(
            f"{path} can't be used by user {os.geteuid()}: permission denied. Run this command as the user of the runner"
        ) from None
    except ConnectionRefusedError:
        raise ProbeFailed(f"no process listens on {path}: it is left from a runner that was killed. Start the runner") from None
    except (BlockingIOError, TimeoutError):
        raise ProbeFailed(f"{path} has a listener that accepts no connections, and its backlog is full") from None
    except OSError as error:  # a path too long for a socket, for example
        raise ProbeFailed(f"{path} can't be probed: {error.strerror or error}") from None


def _exchange(sock: socket.socket, gateway: Connection, message: PrepareConfReq | HTTPReqCallReq, deadline_s: float) -> Any:
    sock.settimeout(max(0.001, deadline_s - time.monotonic()))
    sock.sendall(gateway.send(message))
    while (reply := gateway.next_event()) is NEED_DATA:
        sock.settimeout(max(0.001, deadline_s - time.monotonic()))
        data = sock.recv(1 << 16)
        if not data:
            raise EOFError
        gateway.receive_data(data)
    return reply


def _refused(reply: object, what: str) -> str:
    received = f"the error {reply.code.name}" if isinstance(reply, ErrResp) else type(reply).__name__
    return f"the runner replied with {received} to {what}; its log says why"
