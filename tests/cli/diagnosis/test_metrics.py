# SPDX-License-Identifier: Apache-2.0
"""What is said of the metrics' address."""

import socket
import threading

import pytest

from apisix.cli.diagnosis.metrics import look_at_metrics
from apisix.runner.settings.table import Settings


def said(**settings: object) -> list[str]:
    return [str(finding) for finding in look_at_metrics(Settings(**settings))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "start"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "workers": 2, "silent": 1}', "ok       metrics"),
        (b'HTTP/1.1 503 Down\r\n\r\n{"ok": false, "workers": 1, "silent": 1}', "problem  metrics"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "problem  metrics  another program replies"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "problem  metrics  another program replies"),
        (b"SSH-2.0-OpenSSH\r\n", "problem  metrics  another program replies"),
    ],
)
def test_who_answers(answer: bytes, start: str) -> None:
    """The runner's own word is believed, and nobody else's."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        (line,) = said(metrics_address=f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()

    assert line.startswith(start), line


def test_nobody_answers() -> None:
    """Nobody there is a warning; an address that the runner would refuse is a problem; none is nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (line,) = said(metrics_address=f"127.0.0.1:{port}")
    (refused,) = said(metrics_address="192.0.2.1:9092")

    assert line.startswith(f"warning  metrics  nothing replies on 127.0.0.1:{port}: ")
    assert refused.startswith("problem  metrics  metrics.address is '192.0.2.1:9092', which other machines can reach.")
    assert said() == []
