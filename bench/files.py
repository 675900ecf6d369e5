# SPDX-License-Identifier: Apache-2.0
"""Files for the two C programs: their binaries, and the frames that the wire layer has built."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apisix.runner.wire.messages import ExtraInfoReq, ExtraInfoResp, PrepareConfResp, ReqBody
from bench.cases import Case

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"


class CannotMeasure(Exception):
    """The machine lacks something, or a program failed. The text is a sentence for the user."""


def compile_programs() -> None:
    """
    Compile the echo and the load generator if they are not up to date.

    Raises: CannotMeasure: there is no C compiler, or it failed.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotMeasure(
            "The benchmark needs a C compiler (cc, gcc or clang) for its echo and load generator, and there is none on PATH."
        )
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("echo", "load"):
        sources = [HERE / f"{name}.c", HERE / "frame.h"]
        binary = BUILD / name
        if binary.exists() and all(source.stat().st_mtime < binary.stat().st_mtime for source in sources):
            continue
        done = subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", str(binary), str(sources[0])], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CannotMeasure(f"{sources[0]} does not compile:\n{done.stderr}")


@dataclass(frozen=True)
class Frames:
    """The arguments of the two programs: the frames to send."""

    load: tuple[str, ...]
    echo: tuple[str, ...]


def write_frames(case: Case, directory: Path) -> Frames:
    """Write the frames of `case` into `directory`."""

    def write(name: str, data: bytes | bytearray) -> str:
        path = directory / f"{case.name}-{name}"
        path.write_bytes(data)
        return str(path)

    load = [
        *("--prepare", write("prepare", b"".join(case.prepare(route).encode_frame() for route in range(1, case.routes + 1)))),
        *("--call", write("call", case.call(1, 1).encode_frame())),
        *("--id-at", _place(lambda value: case.call(value, 1).encode_frame())),
        *("--token-at", _place(lambda value: case.call(1, value).encode_frame())),
    ]
    echo = [
        *("--prepared", write("prepared", PrepareConfResp(1).encode_frame())),
        *("--reply", write("reply", case.answer(1).encode_frame())),
        *("--id-at", _place(lambda value: case.call(value, 1).encode_frame())),
        *("--reply-id-at", _place(lambda value: case.answer(value).encode_frame())),
    ]
    if case.body_bytes:
        load += ["--body", write("body", ExtraInfoResp(case.body()).encode_frame())]
        echo += ["--ask", write("ask", ExtraInfoReq(ReqBody()).encode_frame())]
    return Frames(tuple(load), tuple(echo))


def _place(build: Callable[[int], bytearray]) -> str:
    """Return the offset in its frame of a number that the C programs fill in."""
    one, other = build(0x01010101), build(0x02020202)
    places = [place for place, (left, right) in enumerate(zip(one, other, strict=True)) if left != right]
    if len(places) != 4 or places[3] - places[0] != 3:
        raise AssertionError(f"a number of four bytes was expected to differ, not {places}")
    return str(places[0])
