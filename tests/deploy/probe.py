# SPDX-License-Identifier: Apache-2.0
"""Calls to the runner of an image: with plugins of a derived image, of the runner, and with one that uses shared memory."""

import shutil
from typing import TYPE_CHECKING, Final

from tests.docs.pages import CHECKOUT

if TYPE_CHECKING:
    from tests.deploy.image import Container, Stage

HELLO: Final = CHECKOUT / "deploy/kubernetes/base/plugins/hello.py"
# The files of both are allocated when they are first used. A container has 64 MiB in /dev/shm unless more is configured.
SHARED: Final = """
from apisix import Plugin, Request

class Shared(Plugin):
    def on_request(self, request: Request) -> None:
        request.metadata()["seen"] = self.store.incr("calls")
        request.headers["x-seen"] = str(request.metadata()["seen"])
"""
CALL: Final = """
import sys
sys.path.insert(0, "/probe")
from peer import Peer
with Peer(sys.argv[1]) as peer:
    for name, value in ("stop", '{"body": "hello"}'), ("hello", '{"greeting": "hi"}'), ("shared", "{}"):
        reply = peer.request(peer.prepare((name, value)), answers={"request_id": b"1"})
        print(type(reply.action).__name__, getattr(reply.action, "status", None) or list(reply.action.headers))
"""
EXPECTED: Final = ["Stop 201", "Rewrite [('x-hello', 'hi')]", "Rewrite [('x-seen', '1')]"]
DEV_SHM: Final = "mount -t tmpfs -o size=64m,mode=1777 tmpfs {root}/dev/shm"
"""How container runtimes mount shared memory."""


def add(stage: "Stage", *, hello: bool = True) -> None:
    """Add plugins and the program that makes the calls. `hello` is false if the image has a plugin of this name."""
    directory = stage.root / "probe"
    directory.mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / "tests/peer.py", directory)
    plugins = stage.root / "srv" / "plugins"
    if hello:
        shutil.copy(HELLO, plugins)
    (plugins / "shared.py").write_text(SHARED)


def problems_of(container: "Container", socket: str) -> list[str]:
    """Make the calls as the user of the container, print the replies, and return the problems."""
    result = container.run("/opt/runner/bin/python", "-c", CALL, socket)
    replies = result.stdout.splitlines()
    print(f"    replies: {', '.join(replies)}", flush=True)
    return [] if replies == EXPECTED else [f"the calls: {result.stdout}{result.stderr}"]
