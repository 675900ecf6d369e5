# SPDX-License-Identifier: Apache-2.0
"""What asking a socket says of whoever listens there, or of what stands in the way."""

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

PATIENCE_S = 10.0


@contextmanager
def listening(path: Path, *answers: object) -> Iterator[list[object]]:
    """A runner that gives these answers to one connection, one to a message, then hangs up; bytes are sent as they are."""
    heard: list[object] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            runner = Connection(Role.RUNNER)
            for answer in answers:
                while (message := runner.next_event()) is NEED_DATA:
                    if not (data := connection.recv(1 << 16)):
                        return
                    runner.receive_data(data)
                heard.append(message)
                connection.sendall(answer if isinstance(answer, bytes) else runner.send(answer))  # type: ignore[arg-type]
            if answers and answers[-1] == b"":  # silent: wait until the other end gives up
                connection.recv(1)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(PATIENCE_S)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            thread.join()


def test_a_runner_that_answers(tmp_path: Path) -> None:
    """It is asked for a configuration without plugins, and for one call with the token."""
    path = tmp_path / "r.sock"
    with listening(path, PrepareConfResp(77), HTTPReqCallResp(0)) as heard:
        answer = probe(str(path), PATIENCE_S)

    prepare, call = heard
    assert (answer.is_healthy, answer.sentence.startswith(f"{path} replied within ")) == (True, True)
    assert isinstance(prepare, PrepareConfReq)
    assert isinstance(call, HTTPReqCallReq)
    assert (prepare.conf, call.conf_token) == ([], 77)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ((), "closed the connection without a reply"),
        ((PrepareConfResp(77),), "closed the connection without a reply"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "sent a reply that no runner sends"),
        ((ErrResp(ErrCode.SERVICE_UNAVAILABLE),), "the error SERVICE_UNAVAILABLE to a configuration"),
        ((PrepareConfResp(77), ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND)), "the error CONF_TOKEN_NOT_FOUND to a call"),
        ((PrepareConfResp(77), HTTPReqCallResp(0, Stop(200))), "with HTTPReqCallResp to a call without plugins"),
    ],
)
def test_a_listener_that_is_no_healthy_runner(tmp_path: Path, answers: tuple[object, ...], sentence: str) -> None:
    """Whatever it does in the place of the two answers, one sentence says it."""
    path = tmp_path / "r.sock"
    with listening(path, *answers):
        answer = probe(str(path), PATIENCE_S)

    assert (answer.is_healthy, sentence in answer.sentence) == (False, True), answer


@pytest.mark.parametrize("answers", [(b"",), (PrepareConfResp(77), b"")])
def test_a_listener_that_is_silent(tmp_path: Path, answers: tuple[object, ...]) -> None:
    """It is waited for as long as was said, for both answers together."""
    path = tmp_path / "r.sock"
    with listening(path, *answers):
        answer = probe(str(path), 0.05)

    assert (answer.is_healthy, "did not reply within 0.05 s" in answer.sentence) == (False, True), answer
    assert 0.05 <= answer.took_s < PATIENCE_S


def test_a_full_backlog(tmp_path: Path) -> None:
    """Somebody who listens and never accepts is told from somebody who does not listen."""
    path = tmp_path / "r.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            answer = probe(str(path), 0.05)

    assert (answer.is_healthy, "accepts no connections" in answer.sentence) == (False, True), answer


def unwell(path: Path | str) -> str:
    answer = probe(str(path), PATIENCE_S)
    assert not answer.is_healthy
    return answer.sentence


def test_a_path_too_long_for_a_socket() -> None:
    """No runner can listen there, which is another thing than one that does not run."""
    assert "can't be probed: AF_UNIX path too long" in unwell("/tmp/" + 120 * "x")  # noqa: S108  # nothing is made there


def test_no_listener(tmp_path: Path) -> None:
    """Nothing there, something else there, and a socket without a listener are told apart."""
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))

    assert f"there is no socket {tmp_path}/none" in unwell(tmp_path / "none")
    assert f"{tmp_path} is not a socket" in unwell(tmp_path)
    assert f"no process listens on {stale}" in unwell(stale)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_permission_denied(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A socket that this user may not use is told from one that is not there."""
    directory = tmp_path_factory.mktemp("closed")
    path = directory / "r.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        for each in (directory, *directory.parents[:-1]):
            each.chmod(each.stat().st_mode | 0o011)
        sentence = as_user(65534, str(path))

    assert "can't be used by user 65534: permission denied" in sentence


def as_user(uid: int, path: str) -> str:
    """Ask as another user, in a process of its own."""
    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # that other tests have left threads
        pid = os.fork()
    if pid == 0:
        os.setuid(uid)
        os.write(writer, probe(path, PATIENCE_S).sentence.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text
