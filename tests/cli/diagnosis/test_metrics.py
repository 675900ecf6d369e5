# SPDX-License-Identifier: Apache-2.0
"""What `doctor` reports about the address of the metrics."""

import socket
import threading

import pytest

from apisix.cli.diagnosis.metrics import examine_metrics
from apisix.runner.settings.table import Settings


def shown(**settings: object) -> list[str]:
    return [str(result) for result in examine_metrics(Settings(**settings))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "start"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "workers": 2, "silent": 1}', "ok       metrics"),
        (b'HTTP/1.1 503 Down\r\n\r\n{"ok": false, "workers": 1, "silent": 1}', "problem  metrics"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "problem  metrics  another program replies"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "problem  metrics  another program replies"),
        (b"SSH-2.0-OpenSSH\r\n", "problem  metrics  another program replies"),
    ],
)
def test_replies(reply: bytes, start: str) -> None:
    """Only a reply of the runner is accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        (line,) = shown(metrics_address=f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()

    assert line.startswith(start), line


def test_no_reply() -> None:
    """If no program replies, this is a warning. An address that the runner refuses is a problem. Without an address, there is no result."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (line,) = shown(metrics_address=f"127.0.0.1:{port}")
    (refused,) = shown(metrics_address="192.0.2.1:9092")

    assert line.startswith(f"warning  metrics  no program replies on 127.0.0.1:{port}: ")
    assert refused.startswith("problem  metrics  metrics.address is '192.0.2.1:9092', which other machines can reach.")
    assert shown() == []
