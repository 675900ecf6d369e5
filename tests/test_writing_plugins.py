# SPDX-License-Identifier: Apache-2.0
"""docs/guides/write.md: each block of code on the page runs, or stands in an example that is tested."""

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from apisix import Request, Response
from apisix.runner.http.bodies import IN_COROUTINE_BYTES, IN_PLACE_BYTES, MAX_FORM_FIELDS, MAX_JSON_VALUES, MAX_TEXT_BYTES
from apisix.runner.http.encodings import DEFAULT_MAX_DECOMPRESSED_BYTES, MAX_CODINGS, MAX_STREAMS
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain import build_chain
from apisix.runner.plugin.registry import Registry
from apisix.runner.plugin.sources import ENTRY_POINT_GROUP
from apisix.testing import Client

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "guides" / "write.md"
TEXT = PAGE.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A block of code. `place` is what its first line says: the file that it would be, or the one that it is taken from."""

    language: str
    place: str
    code: str
    line: int


def blocks(language: str, place: str = "") -> list[Block]:
    """Find the blocks of a language whose place begins so."""
    found = []
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        comment = re.match(r"# (?:from )?(\S+)\n", match[2])
        found.append(Block(match[1], comment[1] if comment else "", match[2], TEXT.count("\n", 0, match.start()) + 2))
    return [block for block in found if block.language == language and block.place.startswith(place)]


def functions(block: Block) -> dict[str, Callable[..., object]]:
    """Run a block of tests and return its functions. Errors tell the page's own line."""
    names: dict[str, Any] = {"__name__": "tests_of_the_page"}
    exec(compile("\n" * (block.line - 1) + block.code, PAGE, "exec"), names)  # noqa: S102  the page's own code
    return {name: value for name, value in names.items() if name.startswith("test_")}


def cases() -> Iterator[Any]:
    """Return each test of the page, once for each of its parameters."""
    for block in blocks("python", "tests/"):
        for name, function in functions(block).items():
            marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
            argnames, values = marks[0].args if marks else ((), [()])
            argnames = (argnames,) if isinstance(argnames, str) else argnames
            for number, each in enumerate(values):
                arguments = dict(zip(argnames, each if isinstance(each, tuple) else (each,), strict=True))
                yield pytest.param(function, arguments, id=f"{name}-{number}" if marks else name)


@pytest.fixture(scope="module")
def page_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The plugins of the page, each in the file that its first line names."""
    directory = tmp_path_factory.mktemp("page")
    for block in blocks("python", "plugins/"):
        (directory / Path(block.place).name).write_text(block.code, encoding="utf-8")
    return Registry.load([directory])


def test_plugins_load(page_registry: Registry) -> None:
    """All of them can be named by routes, and each file holds at least one."""
    files = {Path(plugin.source.file).name for plugin in page_registry.types if plugin.source.kind == "directory"}

    assert [] == page_registry.problems
    assert {Path(block.place).name for block in blocks("python", "plugins/")} == files


@pytest.mark.parametrize(("function", "arguments"), list(cases()))
def test_tests_pass(page_registry: Registry, function: Callable[..., object], arguments: dict[str, object]) -> None:
    """What the page shows as a test is one, and passes."""
    with Client(registry=page_registry) as client:
        function(**arguments, **({"client": client} if "client" in inspect.signature(function).parameters else {}))


@pytest.mark.parametrize("block", blocks("python", "examples/"), ids=lambda block: block.place)
def test_excerpts(block: Block) -> None:
    """What is said to be taken from an example stands there."""
    assert block.code.partition("\n")[2] in (CHECKOUT / block.place).read_text(encoding="utf-8")


def test_no_block_is_left_out() -> None:
    """Each block of Python says what it is."""
    assert [] == [block.line for block in blocks("python") if not block.place.startswith(("plugins/", "tests/", "examples/"))]


def test_route(page_registry: Registry) -> None:
    """The route of the page would run."""
    (block,) = blocks("yaml")
    (route,) = yaml.safe_load(block.code)["routes"]
    conf = [(entry["name"], entry["value"]) for entry in route["plugins"][Phase.PRE_REQ]["conf"]]

    assert block.code.rstrip().endswith("#END")
    assert None is build_chain(page_registry, conf, "route#1#ext-plugin-pre-req#1", response=False).refusal


def test_entry_point() -> None:
    """The group of entry points is the one that the runner looks at."""
    (block,) = blocks("toml")

    assert [ENTRY_POINT_GROUP] == list(tomllib.loads(block.code)["project"]["entry-points"])


FETCHED = {"read", "text", "json", "form", "var"}
BOTH = FETCHED | {"id", "headers", "body", "phase", "route_key", "context", "cookies"}
OFFERED = {Request: BOTH | {"method", "path", "args", "query", "host", "remote_addr", "response_headers"}, Response: BOTH | {"status"}}
"""What design, 3c, promises to authors."""


@pytest.mark.parametrize(("cls", "heading"), [(Request, "## The request\n"), (Response, "## The response\n")])
def test_attributes(cls: type[Request] | type[Response], heading: str) -> None:
    """The tables name everything that a request and a response offer to authors, and nothing that they don't."""
    section = TEXT.split(heading)[1].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)", row)}
    twins = set(re.findall(r"`await (\w+)\(", TEXT.split("## What has to be fetched\n")[1].partition("\n## ")[0]))

    assert OFFERED[cls] == named
    assert {f"a{name}" for name in FETCHED} == twins
    assert [] == [name for name in named | twins if not hasattr(cls, name)]


def test_links() -> None:
    """What the page leads to is there, on the page itself and beside it."""
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^###? (.+)$", TEXT, re.MULTILINE)}

    assert [] == [target for target in targets if target.startswith("#") and target[1:] not in anchors]
    assert [] == [target for target in targets if not target.startswith(("#", "https://")) and not (PAGE.parent / target).exists()]


def test_bounds_of_bodies() -> None:
    """The table of bounds has the numbers of the code."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", TEXT[TEXT.index("\n### Bodies") :].split("\n## ")[0], re.MULTILINE)
    bounds = {bound: value for bound, value in rows if re.search(r"\d", value)}
    numbers = [int(re.findall(r"\d[\d,]*", value)[0].replace(",", "")) for value in bounds.values()]
    mebibyte = 2**20
    assert numbers == [
        DEFAULT_MAX_DECOMPRESSED_BYTES // mebibyte,
        MAX_CODINGS,
        MAX_STREAMS,
        (MAX_TEXT_BYTES + 1) // mebibyte,
        MAX_JSON_VALUES,
        MAX_FORM_FIELDS,
    ]
    assert (IN_PLACE_BYTES, IN_COROUTINE_BYTES) == (64 * 1024, 512 * 1024)
    operations = (CHECKOUT / "docs" / "guides" / "operate.md").read_text(encoding="utf-8")
    fixed = f"{MAX_CODINGS} codings, {MAX_STREAMS:,} gzip members or zstd frames, 16 MiB for text, {MAX_JSON_VALUES:,} JSON values"
    assert fixed in operations
