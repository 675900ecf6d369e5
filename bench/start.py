# SPDX-License-Identifier: Apache-2.0
"""How long the runner takes to start, and how long `import apisix` takes."""

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.caller import Caller
from bench.cases import CASES
from bench.charts import COLOURS
from bench.files import HERE, CannotMeasure
from bench.modes import COMPILED, PURE, Mode, modes
from bench.part import Scale, Target, note, shown, spread
from bench.processes import START_TIMEOUT_S, scratch, start_command

ACCEPTS_MS, ANSWERS_MS, IMPORT_MS = 150.0, 600.0, 120.0
STARTS, IMPORTS = 20, 30
POLL_S = 0.0005

STATEMENTS = {
    "python": "pass",
    "import apisix": "import apisix",
    "the author's names": "from apisix import Plugin, Reply, Request, Response",
    "import apisix.testing": "import apisix.testing",
}
"""Each is timed from exec to exit, so Python's own start, the first one, is in all of them."""


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Start the runner in every mode, and Python with each statement, many times in turn. The first start of each only fills caches."""
    starts, imports = (2, 3) if scale.smoke else (STARTS, IMPORTS)
    seen: dict[str, dict[str, list[float]]] = {}
    for number in range(1 + starts):
        for mode in modes(wanted or (COMPILED, PURE)):
            for what, took_ms in _start(mode).items():
                if number:
                    seen.setdefault(mode.name, {}).setdefault(what, []).append(took_ms)
    for number in range(1 + imports):
        for mode in modes(wanted or (COMPILED, PURE)):
            for what, statement in STATEMENTS.items():
                took_ms = _run(mode, statement)
                if number:
                    seen[mode.name].setdefault(what, []).append(took_ms)
    found = {name: {what: spread(took) for what, took in by_what.items()} for name, by_what in seen.items()}
    for name, by_what in found.items():
        note(f"start, {name}: " + ", ".join(f"{what} {took['median']:.0f} ms" for what, took in by_what.items()))
    return {"starts": starts, "imports": imports, "modes": found}


def _start(mode: Mode) -> dict[str, float]:
    """Start the runner with only its own plugins. Return when it accepted and when it had replied, in ms since exec."""
    stop = next(case for case in CASES if case.name == "noop")
    with scratch() as directory:
        path = directory / "start.sock"
        command = start_command(mode, path)
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=mode.variables(), cwd=HERE.parent)
        try:
            _wait_until_it_accepts(path, process)
            accepted = time.perf_counter()
            caller = Caller(path)
            caller.call(stop.call(1, caller.prepare(stop.prepare())))
            answered = time.perf_counter()
            caller.close()
        finally:
            process.send_signal(signal.SIGINT)  # at once, and not after half a second of quiet
            process.wait(START_TIMEOUT_S)
    return {"accepts": (accepted - begin) * 1e3, "answers": (answered - begin) * 1e3}


def _wait_until_it_accepts(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.perf_counter() + START_TIMEOUT_S
    while time.perf_counter() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if not probe.connect_ex(str(path)):
                return
        time.sleep(POLL_S)
    raise CannotMeasure(f"{process.args!r} does not listen.")


def _run(mode: Mode, statement: str) -> float:
    begin = time.perf_counter()
    subprocess.run([mode.python, "-c", statement], check=True, env=mode.variables(), cwd=HERE.parent)
    return (time.perf_counter() - begin) * 1e3


_TITLES = {
    "accepts": ("exec to a socket that accepts", ACCEPTS_MS),
    "answers": ("exec to the answer to a first call", ANSWERS_MS),
    "python": ("Python's own start and end, for comparison", 0.0),
    "import apisix": ("`import apisix`", IMPORT_MS),
    "the author's names": ("`from apisix import Plugin, Reply, Request, Response`", IMPORT_MS),
    "import apisix.testing": ("`import apisix.testing`, what pytest loads", 0.0),
}


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    names = list(result["modes"])
    lines = ["| what |" + "".join(f" {name} |" for name in names) + " target |", "|---|" + "---:|" * (len(names) + 1)]
    for what, (title, limit) in _TITLES.items():
        cells = "".join(f" {shown(result['modes'][name][what], ' ms', 0)} |" for name in names)
        lines.append(f"| {title} |{cells} {f'<= {limit:g} ms' if limit else ''} |")
    return (
        "\n".join(lines)
        + f"\n\nMedian, least and greatest of {result['starts']} starts and {result['imports']} imports, each a process of its own."
    )


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare with the targets."""
    found = []
    for what, (title, limit) in _TITLES.items():
        for name, mode in result["modes"].items():
            if limit:
                took_ms = mode[what]["median"]
                found.append(Target(f"{title}, {name}", f"<= {limit:g} ms", f"{took_ms:.0f} ms", took_ms <= limit))
    return found


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the medians and their targets."""
    titles = list(_TITLES.values())
    for number, (name, mode) in enumerate(result["modes"].items()):
        axes.barh(
            [place + 0.4 * number for place in range(len(titles))],
            [mode[what]["median"] for what in _TITLES],
            0.38,
            xerr=[
                [mode[what]["median"] - mode[what]["least"] for what in _TITLES],
                [mode[what]["greatest"] - mode[what]["median"] for what in _TITLES],
            ],
            ecolor="#333333",
            error_kw={"linewidth": 0.8},
            color=COLOURS.get(name),
            label=name,
        )
    limited = [(place + 0.2, limit) for place, (_, limit) in enumerate(titles) if limit]
    axes.scatter(
        [limit for _, limit in limited], [place for place, _ in limited], marker="|", color="#d62728", s=220, linewidth=2, label="target"
    )
    axes.set_yticks([place + 0.2 for place in range(len(titles))], [title.replace("`", "") for title, _ in titles])
    axes.invert_yaxis()
    axes.set_xlabel("ms since exec")
    axes.legend(fontsize="small")
