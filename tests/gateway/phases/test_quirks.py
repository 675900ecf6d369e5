# SPDX-License-Identifier: Apache-2.0
"""Differences of older releases."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apisix.gateway.phases.quirks import Quirk, Version, parse_version, quirks_of
from apisix.gateway.resources.definitions import InvalidDefinition
from tests.gateway.bed import TestBed
from tests.gateway.phases.test_phases import PRE_REQ, scripted


@pytest.mark.parametrize(
    ("version", "quirks"),
    [
        ("3.18.0", set()),
        ("3.16", {Quirk.STALE_HEADERS}),
        ("3.9.1", {Quirk.STALE_HEADERS, Quirk.PATH_DROPS_QUERY}),
        ("3.6", {Quirk.STALE_HEADERS, Quirk.PATH_DROPS_QUERY, Quirk.ALL_HEADERS}),
        ("2.7", set(Quirk) - {Quirk.ALL_HEADERS}),
    ],
)
def test_by_version(version: str, quirks: set[Quirk]) -> None:
    """The quirks of a release are those that later releases removed."""
    assert quirks_of(parse_version(version)) == quirks


@pytest.mark.parametrize("text", ["", "3", "x.y", "v3.6", "3.6x"])
def test_no_version(text: str) -> None:
    """A text that is not a version is refused with an example."""
    with pytest.raises(ValueError, match=r"expected, for example, 3\.6"):
        parse_version(text)


@pytest.mark.parametrize(("version", "target"), [((3, 15), "/new"), ((3, 16), "/new?x=1")])
async def test_path_drops_query(tmp_path: Path, version: tuple[int, int], target: str) -> None:
    """Before 3.16 a rewritten path loses the query."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({"rewrite": {"path": "/new"}}))
        await bed.request("GET", "/a?x=1")

    assert bed.upstream.seen[0]["target"] == target


def test_releases_without_runners_are_refused() -> None:
    """Plugin runners exist since 2.7."""
    with pytest.raises(ValueError, match=r"APISIX 2\.6 is not emulated: plugin runners exist since 2\.7"):
        parse_version("2.6")


@pytest.mark.parametrize("text", ["3.19", "3.19.0", "4.0"])
def test_releases_that_are_not_known_are_refused(text: str) -> None:
    """What a release after the latest recorded one changes is not known."""
    with pytest.raises(ValueError, match=rf"APISIX {text} is not emulated: the latest release that is emulated is 3\.18"):
        parse_version(text)


@pytest.mark.parametrize(("version", "query"), [((2, 10, 1), "a=1"), ((2, 10, 2), "a=2")])
@pytest.mark.parametrize("is_rewritten", [True, False])
async def test_stale_args(tmp_path: Path, version: Version, query: str, is_rewritten: bool) -> None:
    """Before 2.10.2, arguments that change together with the path are lost after proxy-rewrite, or after an info request for `args`."""
    does: dict[str, Any] = {"rewrite": {"path": "/new", "args": [["a", "2"]]}}
    async with TestBed(tmp_path, version) as bed:
        plugins = scripted(does, "ext-plugin-post-req") | {"proxy-rewrite": {"uri": "/pr"}}
        bed.route(plugins=plugins if is_rewritten else scripted({"ask": [["var", "args"]], **does}))
        await bed.request("GET", "/a?a=1")
        bed.route(plugins=scripted(does))
        await bed.request("GET", "/a?a=1")

    assert [seen["target"] for seen in bed.upstream.seen] == [f"/new?{query}", "/new?a=2"]


@pytest.mark.parametrize(
    ("version", "script", "phase", "status"),
    [
        ((2, 8), {"ask": [["var", "uri"]]}, PRE_REQ, 503),
        ((2, 9), {"ask": [["var", "uri"]]}, PRE_REQ, 200),
        ((2, 11), {"ask": [["body", None]]}, PRE_REQ, 503),
        ((2, 12), {"ask": [["body", None]]}, PRE_REQ, 200),
        ((2, 15), {"ask": [["var", "uri"]]}, "ext-plugin-post-resp", 503),
        ((3, 0), {"ask": [["respbody", None]]}, "ext-plugin-post-resp", 200),
        ((2, 13), {}, "ext-plugin-post-resp", 404),
        ((2, 14), {}, "ext-plugin-post-resp", 200),
        ((2, 7), {"stop": {"body": "x"}}, PRE_REQ, 500),
        ((2, 8), {"stop": {"body": "x"}}, PRE_REQ, 200),
        ((2, 7), {"stop": {"status": 403, "headers": [["x", None]]}}, PRE_REQ, 500),
    ],
)
async def test_by_release(tmp_path: Path, version: Version, script: dict[str, Any], phase: str, status: int) -> None:
    """A release ends calls with messages that it does not support, and refuses routes with plugins that it does not have."""
    async with TestBed(tmp_path, version) as bed:
        with suppress(InvalidDefinition):
            bed.route(plugins=scripted(script, phase))
        response = await bed.request("POST", "/a", body=b"x")

    assert response.status == status


@pytest.mark.parametrize(("version", "key"), [((2, 8), None), ((2, 9), "route#1#ext-plugin-pre-req#1")])
async def test_key_of_prepare_conf(tmp_path: Path, version: Version, key: str | None) -> None:
    """Before 2.9, PrepareConf has no key."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({}))
        await bed.request("GET", "/a")

    assert bed.runner.seen[0]["key"] == key


@pytest.mark.parametrize(("version", "status"), [((2, 11), 503), ((2, 12), 200)])
async def test_degradation(tmp_path: Path, version: Version, status: int) -> None:
    """`allow_degradation` has an effect since 2.12."""
    plugins = scripted({"error": 1})
    plugins["ext-plugin-pre-req"]["allow_degradation"] = True
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=plugins)
        response = await bed.request("GET", "/a")

    assert response.status == status


@pytest.mark.parametrize(("version", "values"), [((2, 12), []), ((2, 13), ["2"]), ((2, 14), ["1", "2"])])
async def test_response_headers(tmp_path: Path, version: Version, values: list[str]) -> None:
    """Response headers of a Rewrite exist since 2.13, and repeated ones since 2.14."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({"rewrite": {"resp_headers": [["x-r", "1"], ["x-r", "2"]]}}))
        response = await bed.request("GET", "/a")

    assert response.values("x-r") == values


@pytest.mark.parametrize(("version", "content_type"), [((3, 1), "text/plain; charset=utf-8"), ((3, 2), "text/css")])
async def test_protected_response_headers(tmp_path: Path, version: Version, content_type: str) -> None:
    """Before 3.2, the response phase can't set Content-Type."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({"resp": {"headers": [["content-type", "text/css"]]}}, "ext-plugin-post-resp"))
        response = await bed.request("GET", "/a")

    assert response.values("content-type") == [content_type]


@pytest.mark.parametrize(("version", "count"), [((2, 12), 100), ((2, 13), 115), ((3, 8), 115), ((3, 9), 100)])
async def test_number_of_headers(tmp_path: Path, version: Version, count: int) -> None:
    """From 2.13 to 3.8, a runner gets all headers."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({}))
        await bed.request("GET", "/a", [f"x-{number}: 1" for number in range(110)])

    assert len(bed.runner.seen[-1]["headers"]) == count


async def test_ignored_edits_are_marked(tmp_path: Path) -> None:
    """The report contains the edits that a release ignores."""
    async with TestBed(tmp_path, (2, 12)) as bed:
        bed.route(plugins=scripted({"rewrite": {"body": "new", "resp_headers": [["x-r", "1"]]}}))
        await bed.request("POST", "/a", body=b"old")

    (phase,) = bed.reports[0].phases
    assert phase.changes == ("response header x-r added (ignored before 2.13)", "body 3 B -> 3 B (ignored before 3.6)")


async def test_path_with_args_keeps_query(tmp_path: Path) -> None:
    """Also before 3.16, the query is kept if an argument is sent with the path."""
    async with TestBed(tmp_path, (3, 6)) as bed:
        bed.route(plugins=scripted({"rewrite": {"path": "/new", "args": [["x", "1"]]}}))
        await bed.request("GET", "/a?x=1&y=2")

    assert bed.upstream.seen[0]["target"] == "/new?x=1&y=2"


@pytest.mark.parametrize(("version", "body"), [((3, 5), "old"), ((3, 6), "new")])
async def test_body_ignored(tmp_path: Path, version: tuple[int, int], body: str) -> None:
    """Before 3.6 a Rewrite can't replace the body."""
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=scripted({"rewrite": {"body": "new"}}))
        await bed.request("POST", "/a", body=b"old")

    assert bed.upstream.seen[0]["body"] == body


@pytest.mark.parametrize(("version", "shown"), [((3, 17), "old"), ((3, 18), "new")])
async def test_stale_headers(tmp_path: Path, version: tuple[int, int], shown: str) -> None:
    """Before 3.18, a header that is set in mixed case reaches the upstream, but the next phase gets the old value."""
    plugins = scripted({"rewrite": {"headers": [["X-Mixed", "new"]]}}, PRE_REQ) | scripted({}, "ext-plugin-post-req")
    async with TestBed(tmp_path, version) as bed:
        bed.route(plugins=plugins)
        await bed.request("GET", "/a", ["x-mixed: old"])

    assert ["x-mixed", shown] in bed.runner.seen[-1]["headers"]
    assert ["x-mixed", "new"] in bed.upstream.seen[0]["headers"]
