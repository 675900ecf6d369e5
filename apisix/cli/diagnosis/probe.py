# SPDX-License-Identifier: Apache-2.0
"""Probe a runner as a gateway would: send a PrepareConf without plugins, and one call for it."""

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
"""The key is always the same, so that the store of route configurations has only one row for all probes."""


@dataclass(frozen=True)
class ProbeResult:
    """
    The result of a probe.

    Attributes:
        is_healthy: True if both replies are correct.
        sentence: what happened. If the runner is not healthy, it includes what to do.
        took_s: how long the probe took, in seconds.
    """

    is_healthy: bool
    sentence: str
    took_s: float


class ProbeError(Exception):
    """Raised if a probe fails. The message contains the reason and what to do."""


def probe(path: str, timeout_s: float) -> ProbeResult:
    """Probe the runner that listens on `path`. All replies must arrive within `timeout_s` seconds."""
    began_s = time.monotonic()
    try:
        _probe(path, began_s + timeout_s, timeout_s)
    except ProbeError as reason:
        return ProbeResult(False, str(reason), time.monotonic() - began_s)
    took_s = time.monotonic() - began_s
    return ProbeResult(True, f"{path} replied within {1000 * took_s:.0f} ms", took_s)


def _probe(path: str, deadline_s: float, timeout_s: float) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        _connect(sock, path)
        gateway = Connection(Role.GATEWAY)
        try:
            prepared = _send(sock, gateway, PrepareConfReq([], KEY), deadline_s)
            if not isinstance(prepared, PrepareConfResp):
                raise ProbeError(f"{path}: {_refused(prepared, 'a configuration')}")
            replied = _send(sock, gateway, HTTPReqCallReq(conf_token=prepared.conf_token), deadline_s)
            if not isinstance(replied, HTTPReqCallResp) or replied.action is not None:
                raise ProbeError(f"{path}: {_refused(replied, 'a call without plugins')}")
        except TimeoutError:
            raise ProbeError(
                f"{path} accepts connections, but did not reply within {timeout_s:g} s. The runner may be starting, or plugins may "
                "block all its workers; look at its log"
            ) from None
        except (EOFError, ConnectionError):
            raise ProbeError(
                f"{path} closed the connection without a reply. The runner does not allow user {os.geteuid()} to connect "
                "(socket.allow_users), or has reached its limit of connections (limits.max_connections); look at its log"
            ) from None
        except RemoteProtocolError as error:
            raise ProbeError(f"{path} sent a reply that is not valid: {error}. Another program seems to listen there") from None


def _connect(sock: socket.socket, path: str) -> None:
    try:
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ProbeError(f"{path} is not a socket, so no runner listens there. Use the path of the runner's setting socket.file")
        sock.connect(path)
    except FileNotFoundError:
        raise ProbeError(
            f"there is no socket {path}, so the runner is not running or listens on another path. Start it, or use --socket"
        ) from None
    except PermissionError:
        raise ProbeError(
            f"user {os.geteuid()} has no permission to connect to {path}. Run this command as the user of the runner"
        ) from None
    except ConnectionRefusedError:
        raise ProbeError(f"no process listens on {path}, which is left from a runner that was killed. Start the runner") from None
    except (BlockingIOError, TimeoutError):
        raise ProbeError(
            f"a process listens on {path}, but accepts no connections, and its backlog is full. Look at the log of the runner"
        ) from None
    except OSError as error:  # for example, the path is too long for a socket
        raise ProbeError(f"{path} can't be probed: {error.strerror or error}") from None


def _send(sock: socket.socket, gateway: Connection, message: PrepareConfReq | HTTPReqCallReq, deadline_s: float) -> Any:
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
    return f"the runner replied with {received} to {what}. Look at its log"
