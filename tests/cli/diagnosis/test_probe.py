# SPDX-License-Identifier: Apache-2.0
"""What the probe reports about the process that listens on a socket, or about the reason why it can't connect."""

import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apisix.cli.diagnosis.probe import probe
from apisix.runner.errors import ErrCode
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp, Stop

TIMEOUT_S = 10.0


@contextmanager
def listening(path: Path, *replies: object) -> Iterator[list[object]]:
    """A runner that sends these replies on one connection, one for each message, and then closes it. Bytes are sent unchanged."""
    heard: list[object] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            runner = Connection(Role.RUNNER)
            for reply in replies:
                while (message := runner.next_event()) is NEED_DATA:
                    if not (data := connection.recv(1 << 16)):
                        return
                    runner.receive_data(data)
                heard.append(message)
                connection.sendall(reply if isinstance(reply, bytes) else runner.send(reply))  # type: ignore[arg-type]
            if replies and replies[-1] == b"":  # do not reply, and wait until the probe closes the connection
                connection.recv(1)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(TIMEOUT_S)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            thread.join()


def test_healthy_runner(tmp_path: Path) -> None:
    """The probe sends a PrepareConf without plugins, and one call with the token."""
    path = tmp_path / "r.sock"
    with listening(path, PrepareConfResp(77), HTTPReqCallResp(0)) as heard:
        result = probe(str(path), TIMEOUT_S)

    prepare, call = heard
    assert (result.is_healthy, result.sentence.startswith(f"{path} replied within ")) == (True, True)
    assert isinstance(prepare, PrepareConfReq)
    assert isinstance(call, HTTPReqCallReq)
    assert (prepare.conf, call.conf_token) == ([], 77)


@pytest.mark.parametrize(
    ("replies", "sentence"),
    [
        ((), "closed the connection without a reply"),
        ((PrepareConfResp(77),), "closed the connection without a reply"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "sent a reply that is not valid"),
        ((ErrResp(ErrCode.SERVICE_UNAVAILABLE),), "the error SERVICE_UNAVAILABLE to a configuration"),
        ((PrepareConfResp(77), ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND)), "the error CONF_TOKEN_NOT_FOUND to a call"),
        ((PrepareConfResp(77), HTTPReqCallResp(0, Stop(200))), "with HTTPReqCallResp to a call without plugins"),
    ],
)
def test_wrong_replies(tmp_path: Path, replies: tuple[object, ...], sentence: str) -> None:
    """If one of the two replies is not correct, the sentence describes how."""
    path = tmp_path / "r.sock"
    with listening(path, *replies):
        result = probe(str(path), TIMEOUT_S)

    assert (result.is_healthy, sentence in result.sentence) == (False, True), result


@pytest.mark.parametrize("replies", [(b"",), (PrepareConfResp(77), b"")])
def test_no_replies(tmp_path: Path, replies: tuple[object, ...]) -> None:
    """The time limit applies to both replies together."""
    path = tmp_path / "r.sock"
    with listening(path, *replies):
        result = probe(str(path), 0.05)

    assert (result.is_healthy, "did not reply within 0.05 s" in result.sentence) == (False, True), result
    assert 0.05 <= result.took_s < TIMEOUT_S


def test_a_full_backlog(tmp_path: Path) -> None:
    """A process that listens but does not accept is distinguished from one that does not listen."""
    path = tmp_path / "r.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            result = probe(str(path), 0.05)

    assert (result.is_healthy, "accepts no connections" in result.sentence) == (False, True), result


def problem_of(path: Path | str) -> str:
    result = probe(str(path), TIMEOUT_S)
    assert not result.is_healthy
    return result.sentence


def test_path_that_is_too_long() -> None:
    """The path is too long for a socket, so no runner can listen there. The message is different from that for a missing socket."""
    assert "can't be probed: AF_UNIX path too long" in problem_of("/tmp/" + 120 * "x")  # noqa: S108  # no file is created there


def test_no_listener(tmp_path: Path) -> None:
    """A missing socket, a file that is not a socket, and a socket without a listener have different messages."""
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))

    assert f"there is no socket {tmp_path}/none" in problem_of(tmp_path / "none")
    assert f"{tmp_path} is not a socket" in problem_of(tmp_path)
    assert f"no process listens on {stale}" in problem_of(stale)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_permission_denied(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A socket without permission and a missing socket have different messages."""
    directory = tmp_path_factory.mktemp("closed")
    path = directory / "r.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        for each in (directory, *directory.parents[:-1]):
            each.chmod(each.stat().st_mode | 0o011)
        sentence = as_user(65534, str(path))

    assert "user 65534 has no permission to connect to" in sentence


def as_user(uid: int, path: str) -> str:
    """Probe as another user, in a process of its own."""
    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # other tests may have left threads
        pid = os.fork()
    if pid == 0:
        os.setuid(uid)
        os.write(writer, probe(path, TIMEOUT_S).sentence.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text
