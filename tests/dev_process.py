# SPDX-License-Identifier: Apache-2.0
"""A real `apisix-runner dev` process for tests: it is started as users start it, gets requests and saved files, and is stopped."""

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from apisix.gateway.resources.admin import DEFAULT_KEY

TIMEOUT_S = 20.0


class Dev:
    """
    A `dev --json` on free ports, in its own directory.

    Attributes: lines: all output. others: the lines that are not JSON.
    """

    def __init__(self, directory: Path, *arguments: str, program: Sequence[str] = ("-m", "apisix")) -> None:
        self.directory = directory
        # Not pytest's directory: the path of a socket has 107 bytes.
        self._temp = tempfile.TemporaryDirectory(prefix="dev-")
        self.process = subprocess.Popen(
            [sys.executable, *program, "dev", "--json", "--port", "0", "--upstream-port", "0", *arguments],
            cwd=directory,
            env={**os.environ, "TMPDIR": self._temp.name},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.others: list[str] = []
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.welcome = welcome = self.event("notice")["text"]
        self.gateway = re.findall(r"gateway +(\S+)", welcome)[0]
        self.upstream_port = int(re.findall(r"upstream +http://127\.0\.0\.1:(\d+)", welcome)[0])
        self.runner_pid = self._runner() if "--runner-socket" not in arguments else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()  # has no effect if it has exited
            self.process.wait()
            self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._temp.cleanup()

    def left(self) -> list[str]:
        """Return the temporary directories that exist or were left behind."""
        return os.listdir(self._temp.name)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace"))
            try:
                self._events.put(json.loads(line))
            except ValueError:
                self.others.append(line.decode())

    def _runner(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        return int(children[0])

    def event(self, kind: str, **fields: object) -> dict[str, Any]:
        """Return the next event of this kind that has these fields. Other events are skipped."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            event = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            if kind == event["event"] and fields.items() <= event.items():
                return event

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Send a GET."""
        with urlopen(f"{self.gateway}{path}", timeout=TIMEOUT_S) as response:  # noqa: S310  # the gateway of this test
            return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()

    def refused(self, path: str) -> int:
        """Send a GET that fails, and return its status."""
        with pytest.raises(HTTPError) as caught:
            self.get(path)
        with caught.value as response:
            return response.code

    def put_route(self, plugin: str, uri: str = "/get") -> int:
        """Send the article's first command."""
        route = {
            "uri": uri,
            "plugins": {"ext-plugin-pre-req": {"conf": [{"name": plugin, "value": '{"body":"hello"}'}]}},
            "upstream": {"type": "roundrobin", "nodes": {f"127.0.0.1:{self.upstream_port}": 1}},
        }
        request = Request(  # noqa: S310  # the gateway of this test
            f"{self.gateway}/apisix/admin/routes/1", json.dumps(route).encode(), {"X-API-KEY": DEFAULT_KEY}, method="PUT"
        )
        with urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310  # the gateway of this test
            status: int = response.status
            return status

    def until_hello(self, value: str) -> None:
        """Send requests until the upstream gets this value of the plugin's header. Each request must succeed."""
        deadline = time.monotonic() + TIMEOUT_S
        while value != (seen := json.loads(self.get("/file")[2])["headers"].get("x-hello")):
            assert time.monotonic() < deadline, f"x-hello is still {seen}"
