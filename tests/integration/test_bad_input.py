# SPDX-License-Identifier: Apache-2.0
"""If a peer breaks the protocol, it gets an error and the connection is closed. Other connections are not affected. Source: design, 5."""

import socket
from collections.abc import Callable

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.frames import FrameType, encode_frame
from apisix.runner.wire.messages import ErrResp, ExtraInfoResp, HTTPReqCallReq, HTTPReqCallResp
from tests.peer import HungUp
from tests.runner_process import RunnerProcess, running

BAD_REQUEST = ErrResp(ErrCode.BAD_REQUEST)


def malformed_call(token: int) -> bytes:
    """Return a call with an argument whose offset points outside of the buffer. This is found only when the argument is read."""
    payload = HTTPReqCallReq(id=1, args=[("name", "value")], conf_token=token).encode()
    return encode_frame(FrameType.HTTP_REQ_CALL, payload.replace(b"\x04\0\0\0name", b"\xff\xff\xff\x7fname"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x09\0\0\x04abcd", id="unknown type"),
        pytest.param(b"\x02\0\0\0", id="empty frame"),
        pytest.param(b"\0\0\0\x04\0\0\0\0", id="an error, which no gateway sends"),
        pytest.param(encode_frame(FrameType.HTTP_REQ_CALL, b"\xff" * 64), id="garbage"),
        pytest.param(encode_frame(FrameType.PREPARE_CONF, b"\xff" * 64), id="garbage to prepare"),
        pytest.param(encode_frame(FrameType.HTTP_REQ_CALL, b"\x40\0\0\0"), id="root outside"),
        pytest.param(encode_frame(FrameType.EXTRA_INFO, ExtraInfoResp(b"surprise").encode()), id="info reply without request"),
    ],
)
def test_broken_protocol(runner: RunnerProcess, data: bytes) -> None:
    """The reply is BAD_REQUEST, then the connection is closed. Other connections are still served."""
    with runner.peer() as broken, runner.peer() as other:
        token = other.prepare()
        broken.socket.sendall(data)
        broken.connection.send(HTTPReqCallReq(id=1))  # only said to our own end, so that it expects an answer
        assert broken.receive() == BAD_REQUEST
        with pytest.raises((HungUp, ConnectionResetError)):
            broken.receive()
        assert other.request(token) == HTTPReqCallResp(7, None)


def test_malformed_part_that_a_plugin_reads(runner: RunnerProcess) -> None:
    """A malformed part is found when it is read. Then the reply is BAD_REQUEST, too, and the connection is closed."""
    with runner.peer() as broken:
        token = broken.prepare(("mirror", "{}"))
        broken.connection.send(HTTPReqCallReq(id=1))
        broken.socket.sendall(malformed_call(token))
        assert broken.receive() == BAD_REQUEST
        with pytest.raises((HungUp, ConnectionResetError)):
            broken.receive()


def test_malformed_part_that_nobody_reads(runner: RunnerProcess) -> None:
    """A part that no plugin reads is not decoded, so it can't cause an error."""
    with runner.peer() as peer:
        token = peer.prepare()
        peer.connection.send(HTTPReqCallReq(id=1))
        peer.socket.sendall(malformed_call(token))
        assert peer.receive() == HTTPReqCallResp(1, None)


def test_second_call_while_one_waits(runner: RunnerProcess) -> None:
    """Calls are not pipelined: a call that arrives while another one waits ends the connection."""
    with runner.peer() as peer:
        token = peer.prepare(("linger", '{"seconds": 30}'))
        frame = peer.connection.send(HTTPReqCallReq(id=1, conf_token=token))
        peer.socket.sendall(frame + frame)
        assert peer.receive() == BAD_REQUEST
        with pytest.raises((HungUp, ConnectionResetError)):
            peer.receive()


def byte_by_byte(sock: socket.socket, data: bytes) -> None:
    """Send each byte alone."""
    for position in range(len(data)):
        sock.sendall(data[position : position + 1])


def half_and_half(sock: socket.socket, data: bytes) -> None:
    """Send a message in two parts."""
    sock.sendall(data[: len(data) // 2])
    sock.sendall(data[len(data) // 2 :])


@pytest.mark.parametrize("send", [byte_by_byte, half_and_half])
def test_frames_in_pieces(runner: RunnerProcess, send: Callable[[socket.socket, bytes], None]) -> None:
    """A frame may arrive in any pieces."""
    with runner.peer() as peer:
        token = peer.prepare(("mirror", "{}"))
        send(peer.socket, bytes(peer.connection.send(HTTPReqCallReq(id=3, path="/pieces", conf_token=token))))
        assert peer.receive().id == 3


def test_half_a_frame_and_gone(runner: RunnerProcess) -> None:
    """A peer that hangs up in the middle of a frame does not leave any resources in use."""
    with runner.peer() as peer:
        peer.socket.sendall(b"\x02\xff\xff\xff" + b"x" * 1000)
    with runner.peer() as other:
        assert other.request(other.prepare()) == HTTPReqCallResp(7, None)


def test_silent_connections(runner: RunnerProcess) -> None:
    """Connections on which nothing is ever sent are normal."""
    silent = [runner.peer() for _ in range(50)]
    with runner.peer() as other:
        assert other.request(other.prepare()) == HTTPReqCallResp(7, None)
    for peer in silent:
        peer.close()


def test_late_answer(runner: RunnerProcess) -> None:
    """A gateway that sends an info reply after its call has failed can continue."""
    # The read in a coroutine that fails, after the info request, leaves that open; the gateway replies to it before its next call.
    with runner.peer() as peer:
        token = peer.prepare(("ask-and-fail", "{}"))
        peer.send(HTTPReqCallReq(id=1, conf_token=token))
        assert peer.receive().info.name == "never"
        peer.send(ExtraInfoResp(b"late"))
        assert peer.receive() == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        assert peer.request(peer.prepare()) == HTTPReqCallResp(7, None)


def test_half_a_frame_for_too_long() -> None:
    """If a frame does not arrive in time, its connection is closed, and a line is logged. Other connections are not affected."""
    with running(environ={"APISIX_RUNNER_LIMITS_READ_TIMEOUT": "0.1"}) as runner, runner.peer() as other:
        with runner.peer() as slow:
            slow.socket.sendall(b"\x02\x00\x01")
            assert slow.socket.recv(1) == b""
        assert other.request(other.prepare()) == HTTPReqCallResp(7, None)
        runner.wait_for_log("limits.read_timeout")
