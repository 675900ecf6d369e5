# SPDX-License-Identifier: Apache-2.0
"""apisix.yaml is parsed in the same way as by APISIX."""

import os
from pathlib import Path

import pytest

from apisix.gateway.resources.definitions import Problem
from apisix.gateway.resources.standalone import RoutesFile
from apisix.gateway.resources.store import Store

TEXT = """\
upstreams:
  - id: u1
    type: roundrobin
    nodes: {"127.0.0.1:1980": 1}
routes:
  - id: r1
    uri: /get
    upstream_id: u1
    plugins:
      ext-plugin-pre-req:
        conf:
          - name: stop
            value: '{"body": "hello"}'
  - uri: /second
    upstream: {nodes: {"127.0.0.1:1980": 1}}
#END
"""


class StandaloneSetup:
    """A file, a store, and the reported problems."""

    def __init__(self, directory: Path, text: str = TEXT) -> None:
        self.said: list[Problem] = []
        self.store = Store(self.said.extend)
        self.path = directory / "apisix.yaml"
        self.file = RoutesFile(self.path, self.store)
        self.path.write_text(text, encoding="utf-8")
        self.file.load()

    def ids(self) -> list[str]:
        """Return the ids of the routes in effect."""
        return sorted(self.store.records("routes"))

    def upstream_port(self, path: str) -> int | None:
        """Return the port of the node that a request is sent to."""
        match = self.store.router.match("GET", "", path, "127.0.0.1")
        return None if match is None or match.route.upstream is None else match.route.upstream.nodes[0].port


def test_routes_and_upstreams(tmp_path: Path) -> None:
    """Routes refer to their upstream by id or contain it. A route without an id gets a number."""
    setup = StandaloneSetup(tmp_path)

    assert (setup.said, setup.ids(), setup.upstream_port("/get"), setup.upstream_port("/second")) == ([], ["2", "r1"], 1980, 1980)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"routes:\n  - \xff\n#END", "line 2: this is not UTF-8", id="no-utf-8"),
        pytest.param(b"routes:\n  - id: x\n   uri: [\n#END", "line 3: this is not YAML: expected <block end>", id="no-yaml"),
        pytest.param(b"[" * 10_000 + b"\n#END", "is not YAML: maximum recursion depth", id="endless"),
        pytest.param(b"a: 2026-13-41\n#END", "is not YAML: month must be in", id="no-date"),
        pytest.param(b"a: \0\n#END", "is not YAML: unacceptable character", id="nul"),
    ],
)
def test_unreadable(tmp_path: Path, content: bytes, reason: str) -> None:
    """Whatever the file contains, the routes stay in effect, and the reason contains the line."""
    setup = StandaloneSetup(tmp_path)
    setup.path.write_bytes(content)

    assert not setup.file.load()
    assert setup.ids() == ["2", "r1"]
    assert reason in str(setup.said[0])


def test_same_id_twice(tmp_path: Path) -> None:
    """If two routes have the same id, the last one is used, and a message reports it."""
    setup = StandaloneSetup(tmp_path, "routes:\n  - {id: a, uri: /a}\n  - {id: a, uri: /b}\n#END")

    assert [str(problem) for problem in setup.said] == ["route a: is defined more than once; the last one is used"]


def test_without_end(tmp_path: Path) -> None:
    """A file without #END changes nothing, and a message reports it."""
    setup = StandaloneSetup(tmp_path)
    setup.path.write_text("routes: []\n", encoding="utf-8")

    assert not setup.file.load()
    assert setup.ids() == ["2", "r1"]
    assert "does not end with the line #END" in str(setup.said[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [\n#END", "is not YAML"), ("- a\n#END", "does not contain a mapping")],
)
def test_broken(tmp_path: Path, text: str, said: str) -> None:
    """A broken file changes nothing, and a message reports it."""
    setup = StandaloneSetup(tmp_path)
    setup.path.write_text(text, encoding="utf-8")

    assert not setup.file.load()
    assert setup.ids() == ["2", "r1"]
    assert said in str(setup.said[0])


def test_missing(tmp_path: Path) -> None:
    """A file that was removed changes nothing, and a message reports it."""
    setup = StandaloneSetup(tmp_path)
    setup.path.unlink()

    assert not setup.file.load()
    assert "can't be read: No such file" in str(setup.said[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ssls: []\n#END", "ssls are not supported by the development gateway"),
        ("rutes: []\n#END", "'rutes' is not a key that APISIX supports; expected one of consumer_groups, consumers"),
        ("routes: {}\n#END", "routes must be a list"),
        ("routes: [{id: 1, uri: /a, plugins: {nope: {}}}]\n#END", "route 1: left out: unknown plugin [nope]"),
        ("routes: [{id: 1, uri: /a, plugins: {cors: {}}}]\n#END", "route 1: plugin cors does not run"),
    ],
)
def test_said_by_name(tmp_path: Path, text: str, said: str) -> None:
    """Fields that are ignored are named in a message."""
    assert said in " ".join(map(str, StandaloneSetup(tmp_path, text).said))


def test_bad_route_leaves_the_others(tmp_path: Path) -> None:
    """One invalid route does not affect the others."""
    setup = StandaloneSetup(tmp_path, "routes: [{id: 1, uri: 5}, {id: 2, uri: /b, upstream: {nodes: {a: 1}}}]\n#END")

    assert (setup.upstream_port("/a"), setup.upstream_port("/b")) == (None, 80)


def test_change_gets_a_new_version(tmp_path: Path) -> None:
    """If two changes are made within one second, they have different versions, which are part of the key of PrepareConf."""
    setup = StandaloneSetup(tmp_path)
    first = setup.store.records("routes")["r1"].version
    modified = setup.path.stat().st_mtime
    os.utime(setup.path, (modified, modified))
    setup.file.load()

    assert int(setup.store.records("routes")["r1"].version) == int(first) + 1


def test_disabled_route(tmp_path: Path) -> None:
    """A route with status 0 does not match any request."""
    assert StandaloneSetup(tmp_path, "routes: [{id: 1, uri: /a, status: 0, upstream: {nodes: {a: 1}}}]\n#END").upstream_port("/a") is None


def test_admin_route_goes_over_the_file(tmp_path: Path) -> None:
    """A route of the admin API hides the file's route with the same id until it is deleted. The file's route can't be deleted."""
    setup = StandaloneSetup(tmp_path)
    setup.store.put("routes", "r1", {"uri": "/get", "upstream": {"nodes": {"127.0.0.1:81": 1}}})
    assert setup.upstream_port("/get") == 81
    setup.store.delete("routes", "r1")
    assert setup.upstream_port("/get") == 1980
    with pytest.raises(ValueError, match=r"defined in apisix\.yaml: remove it there"):
        setup.store.delete("routes", "r1")
