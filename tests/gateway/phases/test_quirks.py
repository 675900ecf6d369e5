# SPDX-License-Identifier: Apache-2.0
"""What older releases do otherwise."""

from pathlib import Path

import pytest

from apisix.gateway.phases.quirks import Quirk, parse_version, quirks_of
from tests.gateway.bed import TestBed
from tests.gateway.phases.test_phases import PRE_REQ, scripted


@pytest.mark.parametrize(
    ("version", "quirks"),
    [
        ("3.18.0", set()),
        ("3.16", {Quirk.STALE_HEADERS}),
        ("3.6", {Quirk.STALE_HEADERS, Quirk.PATH_DROPS_QUERY}),
        ("2.15.3", {Quirk.STALE_HEADERS, Quirk.PATH_DROPS_QUERY, Quirk.BODY_IGNORED}),
    ],
)
def test_by_version(version: str, quirks: set[Quirk]) -> None:
    """A release has the quirks that were mended after it."""
    assert quirks == quirks_of(parse_version(version))


@pytest.mark.parametrize("text", ["", "3", "x.y", "v3.6", "3.6x"])
def test_no_version(text: str) -> None:
    """What is no version is refused with an example."""
    with pytest.raises(ValueError, match=r"expected, for example, 3\.6"):
        parse_version(text)


@pytest.mark.parametrize(("version", "target"), [((3, 15), "/new"), ((3, 16), "/new?x=1")])
async def test_path_drops_query(tmp_path: Path, version: tuple[int, int], target: str) -> None:
    """Before 3.16 a rewritten path loses the query."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({"rewrite": {"path": "/new"}}))
        await bed.request("GET", "/a?x=1")

    assert target == bed.upstream.seen[0]["target"]


async def test_path_with_args_keeps_query(tmp_path: Path) -> None:
    """Before 3.16, too, an argument that is sent along keeps the query."""
    async with TestBed(tmp_path, (3, 6)) as bed:
        bed.route(plugins=scripted({"rewrite": {"path": "/new", "args": [["x", "1"]]}}))
        await bed.request("GET", "/a?x=1&y=2")

    assert "/new?x=1&y=2" == bed.upstream.seen[0]["target"]


@pytest.mark.parametrize(("version", "body"), [((3, 5), "old"), ((3, 6), "new")])
async def test_body_ignored(tmp_path: Path, version: tuple[int, int], body: str) -> None:
    """Before 3.6 a Rewrite can't replace the body."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({"rewrite": {"body": "new"}}))
        await bed.request("POST", "/a", body=b"old")

    assert body == bed.upstream.seen[0]["body"]


@pytest.mark.parametrize(("version", "shown"), [((3, 17), "old"), ((3, 18), "new")])
async def test_stale_headers(tmp_path: Path, version: tuple[int, int], shown: str) -> None:
    """Before 3.18 a header set in mixed case reaches the upstream, but the next phase is shown the old value."""
    plugins = scripted({"rewrite": {"headers": [["X-Mixed", "new"]]}}, PRE_REQ) | scripted({}, "ext-plugin-post-req")
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=plugins)
        await bed.request("GET", "/a", ["x-mixed: old"])

    assert ["x-mixed", shown] in bed.runner.seen[-1]["headers"]
    assert ["x-mixed", "new"] in bed.upstream.seen[0]["headers"]
